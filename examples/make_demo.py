"""Render ``demo.mp4``, the short clip that the README's first command interpolates.

A paper collage in motion, three seconds at 256x144 and 12 fps: hills pass in parallax while a sun
and a windmill turn, clouds and a balloon drift, trees sway, a ball bounces along the path and
flowers rush past in front. A plucked melody plays, with a knock each time the ball lands, so that
a slip between picture and sound can be heard.

All of it is computed here from one fixed seed, with no outside material: as long as the libraries
(NumPy, OpenCV, PyAV and the FFmpeg in it) stay the same, every run writes the same bytes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import click
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.random import Generator
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS, FRAMES, SAMPLE_RATE, SEED = 256, 144, 12, 36, 48_000, 9
SCALE = 3  # all is drawn this much larger, then averaged down: smooth edges, sub-pixel motion
LANDINGS = (6, 18, 30)  # the frames at which the ball touches the ground
MELODY = (76, 79, 81, 84, 81, 79, 76, 74, 72, 76, 79, 84)  # MIDI notes, four to the second

Array = NDArray[np.floating]
Colour = tuple[float, float, float]  # RGB, 0 to 1
Outline = Sequence[tuple[float, float]]  # a polygon, in output pixels from the middle of its piece


class Part(NamedTuple):
    """Shapes of one paper, in one colour or in two that `pattern` mixes (0: first, 1: second)."""

    outlines: Sequence[Outline]
    colour: Colour
    second: Colour = (0, 0, 0)
    pattern: Callable[[Array, Array], Array] = lambda x, _: 0 * x
    grain: float = 20  # the width, in pixels, of the paper's blotches


class Layer(NamedTuple):
    image: Array  # premultiplied RGBA, SCALE times as large as it is shown
    motion: Callable[[float], tuple[float, float, float, float]]  # frame -> x, y, clockwise angle, zoom
    shadow: float = 0.3  # how dark a shadow it casts on the layers behind


def noise(rng: Generator, shape: tuple[int, int], period: float) -> Array:
    """Band-limited noise around 0, in four octaves; the coarsest blotches are `period` pixels wide."""
    total = np.zeros(shape, np.float32)
    for octave in range(4):
        sigma = period * SCALE / 4 / 2**octave
        white = rng.standard_normal(shape, np.float32) * (1.8 * sigma * 0.6**octave)
        total += cv2.GaussianBlur(white, (0, 0), sigma)
    return total


def circle(x: float, y: float, radius: float) -> Outline:
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in np.linspace(0, 2 * np.pi, 72)]


def turned(count: int, outline: Outline, start: float = 0.0) -> list[Outline]:
    """Copies of a polygon, spread evenly around the middle of the piece."""
    angles = start + np.arange(count) * 2 * np.pi / count
    spins = zip(np.cos(angles), np.sin(angles), strict=True)
    return [[(c * x - s * y, s * x + c * y) for x, y in outline] for c, s in spins]


def collage(rng: Generator, width: int, height: int, parts: Iterable[Part]) -> Array:
    """Cut parts out of mottled paper, a pale rim where the scissors went, and glue them together."""
    shape = (height * SCALE, width * SCALE)
    y, x = ((axis + 0.5) / SCALE for axis in np.mgrid[: shape[0], : shape[1]])
    image = np.zeros((*shape, 4))
    for outlines, colour, second, pattern, grain in parts:
        mask = np.zeros(shape, np.uint8)
        for outline in outlines:
            points = np.asarray(outline) * SCALE + (shape[1] / 2 - 0.5, shape[0] / 2 - 0.5)
            cv2.fillPoly(mask, [np.round(points * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
        alpha = mask[..., None] / 255
        weight = np.clip(pattern(x - width / 2, y - height / 2), 0, 1)[..., None]
        tone = 1 + 0.09 * noise(rng, shape, grain) + 0.06 * noise(rng, shape, 4)
        rim = 0.4 * np.clip(alpha[..., 0] - cv2.GaussianBlur(alpha, (0, 0), SCALE), 0, 1)
        mixed = np.array(colour) * (1 - weight) + np.array(second) * weight
        rgb = np.clip(mixed * tone[..., None] + rim[..., None], 0, 1)
        image = np.dstack([rgb, np.ones(shape)]) * alpha + image * (1 - alpha)
    return image.astype(np.float32)


def cloud(rng: Generator, x: float, y: float, speed: float) -> Layer:
    puffs = [(-26, 6, 12), (-10, -3, 16), (10, -1, 15), (27, 7, 11), (0, 7, 13)]
    image = collage(rng, 92, 46, [Part([circle(*puff) for puff in puffs], (0.94, 0.94, 0.95))])
    return Layer(image, lambda t: (x + speed * t, y + 2 * math.sin(t / 7 + x), 0, 0.8 + 0.004 * t))


def sky(rng: Generator) -> list[Layer]:
    """The sky and, in front of it, the sun and two clouds."""
    air = Part([circle(0, 0, 400)], (0.36, 0.68, 0.90), (1.0, 0.90, 0.74), lambda _, y: 0.65 + y / 110, 50)
    rays = Part(turned(12, [(25, -5), (39, 0), (25, 5)]), (0.96, 0.58, 0.20))
    face = Part([circle(0, 0, 22)], (0.98, 0.68, 0.16), (1.0, 0.84, 0.36),
                lambda x, y: 0.5 + 0.5 * np.sin(np.hypot(x, y) * 0.8 + 2 * np.arctan2(y, x)))  # fmt: skip
    back = Layer(collage(rng, 330, 160, [air]), lambda t: (150 - t, 72, 0, 1), shadow=0)
    sun = Layer(collage(rng, 84, 84, [rays, face]), lambda t: (212 - 0.6 * t, 34, 4 * t, 1))
    return [back, sun, cloud(rng, 150, 30, 2.2), cloud(rng, -10, 46, 1.5)]


def balloon(rng: Generator) -> Layer:
    ropes: list[Outline] = [[(s * 5, 4), (s * 6, 4), (s * 4, 16), (s * 3, 16)] for s in (-1, 1)]
    basket = Part([*ropes, [(-5, 14), (5, 14), (4, 21), (-4, 21)]], (0.5, 0.32, 0.18))
    outlines = [circle(0, -20, 19), [(-18, -14), (18, -14), (5, 6), (-5, 6)]]
    cloth = Part(outlines, (0.83, 0.25, 0.27), (0.97, 0.88, 0.72),
                 lambda x, y: 0.5 + 3 * np.sin(x * (0.75 + ((y + 20) / 50) ** 2)))  # fmt: skip
    image = collage(rng, 44, 84, [basket, cloth])
    return Layer(image, lambda t: (86 + 1.1 * t, 72 - 0.7 * t, 8 * math.sin(t / 5), 0.8 + 0.008 * t))


def windmill(rng: Generator) -> list[Layer]:
    """Tower and sails; both ride along with the meadow while the sails turn."""
    tower = Part([[(-8, -28), (8, -28), (15, 40), (-15, 40)]], (0.88, 0.80, 0.70), (0.70, 0.32, 0.24),
                 lambda x, y: 4 * abs(np.sin(y * 0.628) * np.sin(x * 0.35 + y // 5 * 1.57)))  # fmt: skip
    cap = Part([circle(0, -28, 9)], (0.35, 0.24, 0.28))
    cloth = Part(turned(4, [(9, 0), (40, 0), (40, 11), (12, 8)]), (0.93, 0.88, 0.78), grain=9)
    bars = [(0.0, -1.2, 41.0, 1.2), *((x, 0, x + 1.4, 9) for x in (14, 22, 30, 38))]
    frame = [bar for a, b, c, d in bars for bar in turned(4, [(a, b), (c, b), (c, d), (a, d)])]
    wood = Part([circle(0, 0, 4), *frame], (0.42, 0.25, 0.17))
    body, sails = collage(rng, 40, 80, [tower, cap]), collage(rng, 88, 88, [cloth, wood])
    mill = Layer(body, lambda t: (186 - 2.6 * t, 87, 0, 1))
    return [mill, Layer(sails, lambda t: (186 - 2.6 * t, 58, 20 + 9 * t, 1))]


def land(rng: Generator, level: float, speed: float, rough: float, colours: tuple[Colour, Colour]) -> Layer:
    """Hills, whose skyline is a few sines of random phase, quilted with fields of two colours."""
    x = np.arange(-240, 244, 2.0)
    y = -rough * np.sum([np.sin(x * n / 47 + rng.uniform(0, 6.3)) / n for n in (1, 2, 3.3)], axis=0)
    skyline = [(-240, 99), *zip(x.tolist(), y.tolist(), strict=True), (244, 99)]
    ground = Part([skyline], *colours, lambda x, y: 4 * np.sin((x + 0.9 * y) / 6) * np.sin((x / 4 - y) / 5))
    return Layer(collage(rng, 480, 90, [ground]), lambda t: (220 - speed * t, level, 0, 1))


def tree(rng: Generator, x: float, y: float, zoom: float) -> Layer:
    """A tree that sways about its foot, which is the middle of the piece."""
    trunk = Part([[(-2, -35), (2, -35), (4, 4), (-4, 4)]], (0.40, 0.27, 0.2))
    crown = Part([circle(0, -50, 17), circle(-8, -37, 13), circle(8, -37, 13)], (0.16, 0.42, 0.36), grain=9)
    image = collage(rng, 80, 140, [trunk, crown])
    return Layer(image, lambda t: (x - 3.8 * t, y, 4 * math.sin(t / 4 + x), zoom))


def ball(rng: Generator) -> list[Layer]:
    """The ball, in wedges of colour, and the smudge of shadow on the path under it."""
    hues = [(0.90, 0.30, 0.26), (0.97, 0.92, 0.83), (0.18, 0.49, 0.66), (0.97, 0.74, 0.25), (0.9, 0.9, 0.8)]
    wedge = [(0.0, 0.0), *circle(0, 0, 13)[:13]]
    wedges = [Part(turned(1, wedge, n * np.pi / 3), hue) for n, hue in enumerate(hues)]
    back, hub = Part([circle(0, 0, 13)], (0.30, 0.58, 0.42)), Part([circle(0, 0, 4)], (0.95, 0.92, 0.86))
    image = collage(rng, 30, 30, [back, *wedges, hub])
    smudge = 0.5 * collage(rng, 30, 10, [Part([[(x, y / 3) for x, y in circle(0, 0, 14)]], (0.2, 0.1, 0.1))])

    def fall(t: float) -> float:
        return ((t - LANDINGS[0]) % 12 / 6 - 1) ** 2  # 0 at the top of a bounce, 1 on the ground

    below = Layer(smudge, lambda t: (44 + 4.3 * t, 120, 0, 0.6 + 0.4 * fall(t)), shadow=0)
    return [below, Layer(image, lambda t: (44 + 4.3 * t, 81 + 26 * fall(t), 11 * t, 1), shadow=0.12)]


def flowers(rng: Generator) -> Layer:
    """A long strip of grass blades and flower heads that passes close to the camera."""
    blades: list[Outline] = [[(x - 3, 25), (x + rng.uniform(-5, 5), rng.uniform(-2, 8)), (x + 3, 25)]
                             for x in range(-275, 275, 5)]  # fmt: skip
    spots = [(x + rng.uniform(-9, 9), rng.uniform(-12, -4)) for x in range(-262, 262, 37)]
    blades += [[(x - 0.8, y), (x + 0.8, y), (x + 1.2, 25), (x - 1.2, 25)] for x, y in spots]
    petals = [[(x + u, y + v) for u, v in leaf] for x, y in spots for leaf in turned(5, circle(4.6, 0, 4), y)]
    heads = Part(petals, (0.85, 0.28, 0.45), (0.98, 0.86, 0.80), lambda x, _: 0.5 + 2 * np.sin(x / 23))
    hearts = Part([circle(x, y, 3.2) for x, y in spots], (0.97, 0.75, 0.2))
    image = collage(rng, 560, 46, [Part(blades, (0.13, 0.34, 0.22), grain=8), heads, hearts])
    return Layer(image, lambda t: (276 - 7.4 * t, 126, 0, 1))


def scene(rng: Generator) -> list[Layer]:
    """All the layers, the farthest first."""
    hills = land(rng, 92, 1.6, 9, ((0.52, 0.62, 0.74), (0.58, 0.68, 0.78)))
    meadow = land(rng, 106, 2.6, 7, ((0.50, 0.66, 0.36), (0.74, 0.76, 0.40)))
    path = land(rng, 114, 4.2, 2.5, ((0.80, 0.62, 0.40), (0.86, 0.70, 0.47)))
    trees = [tree(rng, *at) for at in ((120, 112, 0.8), (158, 114, 0.6), (290, 114, 0.9), (330, 112, 0.7))]
    return [*sky(rng), hills, balloon(rng), *windmill(rng), meadow, *trees, path, *ball(rng), flowers(rng)]


def render(layers: Sequence[Layer], t: float) -> NDArray[np.uint8]:
    """The picture at frame t."""
    picture = np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 3), np.float32)
    for image, motion, shadow in layers:
        x, y, angle, zoom = motion(t)
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), -angle, zoom)
        matrix[:, 2] += (x * SCALE - width / 2, y * SCALE - height / 2)
        piece = cv2.warpAffine(image, matrix, (WIDTH * SCALE, HEIGHT * SCALE))
        cast = np.pad(piece[..., 3], ((2 * SCALE, 0), (SCALE, 0)), "edge")[: -2 * SCALE, :-SCALE]
        picture *= 1 - shadow * cv2.GaussianBlur(cast, (0, 0), 1.5 * SCALE)[..., None]
        picture = piece[..., :3] + picture * (1 - piece[..., 3:])
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.round(np.clip(small, 0, 1) * 255).astype(np.uint8)


def soundtrack(rng: Generator) -> Array:
    """The melody and the knocks, stereo, exactly as long as the pictures."""
    t = np.arange(SAMPLE_RATE * FRAMES // FPS) / SAMPLE_RATE
    sound = np.zeros((2, t.size))
    for beat, note in enumerate(MELODY):
        pitch, since = 2 * np.pi * 440 * 2 ** ((note - 69) / 12), np.maximum(t - beat / 4, 0)
        string = sum(np.sin(n * pitch * since) * np.exp(-(3 + 2 * n) * since) / n**1.5 for n in range(1, 7))
        sound += np.outer((0.20, 0.10) if beat % 2 else (0.10, 0.20), string)
    for landing in LANDINGS:
        since = np.maximum(t - landing / FPS, 0)
        knock = (np.sin(942 * since) + rng.normal(0, 0.3, t.size)) * np.exp(-60 * since) * (since > 0)
        sound += np.outer((1 - landing / FRAMES, landing / FRAMES), 0.6 * knock)  # where the ball is
    return np.asarray(sound * np.clip((t[-1] - t) / 0.2, 0, 1), np.float32)  # fades out


def encode(path: Path, layers: Sequence[Layer], sound: Array) -> None:
    """Write H.264 and AAC; one thread, because the number of threads changes what x264 writes."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as box:
        video = box.add_stream("libx264", FPS, options={"crf": "16", "preset": "slow"})
        audio = box.add_stream("aac", SAMPLE_RATE, layout="stereo", bit_rate=96_000)
        video.width, video.height, video.pix_fmt, video.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        video.color_range, video.colorspace = ColorRange.MPEG, Colorspace.ITU709
        video.color_primaries, video.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for t in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(render(layers, t), "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND)  # fmt: skip
            box.mux(video.encode(frame))
        box.mux(video.encode())
        tone = av.AudioFrame.from_ndarray(sound, "fltp", "stereo")
        tone.sample_rate, tone.pts = SAMPLE_RATE, 0  # without a pts the sound would start 21 ms late
        box.mux([*audio.encode(tone), *audio.encode()])


@click.command()
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False),
              default=Path(__file__).with_name("demo.mp4"), help="The file to write.")  # fmt: skip
def main(out: Path) -> None:
    """Render the demo clip."""
    partial = out.with_name(f".{out.name}.partial")
    encode(partial, scene(np.random.default_rng(SEED)), soundtrack(np.random.default_rng(SEED)))
    partial.replace(out)


if __name__ == "__main__":
    main()
