"""Render small clips with any property that a test needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# swscale's names for the matrices that ITU-T H.273 numbers so.
_SWS_MATRIX = {1: "ITU709", 5: "ITU601", 6: "ITU601", 9: "BT2020"}


@dataclass(frozen=True)
class Sound:
    """A tone as an audio track: `start` in seconds, `length` in frames of 1024 samples at 48 kHz."""

    codec: str = "aac"
    start: float = 0.0
    length: int = 40


def moving_square(index: int, width: int, height: int) -> Picture:
    """RGB [height, width, 3]: a red square that moves 3 pixels per frame over a blue-green gradient."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 0 + 40, 60 + 120 * y // height, 80 + 120 * x // width], -1).astype(np.uint8)
    left = (3 * index) % max(1, width - 8)
    picture[4:12, left : left + 8] = (220, 30, 30)
    return picture


def render_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    rate: Fraction = Fraction(25),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[Fraction] | None = None,
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    sounds: Sequence[Sound] = (),
    options: dict[str, str] | None = None,
    rotation: float | None = None,
    sample_aspect_ratio: Fraction | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[dict[str, Any]] | None = None,
    stream_metadata: dict[str, str] | None = None,
    picture: Callable[[int, int, int], NDArray[Any]] = moving_square,
) -> Path:
    """`times` (seconds) replace the grid of `rate`; `tags` are matrix, range, primaries and transfer."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(chapters)  # type: ignore[arg-type]
        quality = {"crf": "10", "preset": "ultrafast", "bf": "2"} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=rate, options=quality | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, 90_000) if times else 1 / rate
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if rotation is not None:
            stream.set_display_rotation(rotation)
        stream.metadata.update(stream_metadata or {})
        tracks = [_add_sound(container, sound) for sound in sounds]
        for index in range(frames):
            frame: Any = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")
            frame = frame.reformat(
                format=pixel_format,
                dst_colorspace=_SWS_MATRIX.get(tags[0], "ITU709"),
                dst_color_range=2 if tags[1] == 2 else 1,
            )
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            frame.pts = index if times is None else round(times[index] * 90_000)
            frame.time_base = context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track, sound in zip(tracks, sounds, strict=True):
            _write_tone(container, track, sound)
    return path


def _add_sound(container: Any, sound: Sound) -> Any:
    options = {"strict": "experimental"} if sound.codec in ("opus", "vorbis") else {}
    stream = container.add_stream(sound.codec, rate=48_000, options=options)
    stream.layout = "stereo"
    return stream


def _write_tone(container: Any, stream: Any, sound: Sound) -> None:
    phase = np.arange(1024 * sound.length) / 48_000 * 2 * np.pi * 440
    tone = (np.sin(phase) * 8000).astype(np.int16)
    resampler = av.AudioResampler(stream.format, "stereo", 48_000, stream.frame_size or 1024)
    for index in range(sound.length):
        part = np.repeat(tone[1024 * index : 1024 * (index + 1)], 2)[None]
        frame = av.AudioFrame.from_ndarray(part, "s16", "stereo")
        frame.sample_rate = 48_000
        frame.pts = 1024 * index + round(sound.start * 48_000)
        frame.time_base = Fraction(1, 48_000)
        for ready in resampler.resample(frame):
            container.mux(stream.encode(ready))
    container.mux(stream.encode(None))


def planes_of(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """A frame's planes without the padding at the ends of its lines."""
    wide = max(component.bits for component in frame.format.components) > 8
    planes = []
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), np.uint16 if wide else np.uint8).reshape(plane.height, -1)
        paired = 2 if frame.format.name == "nv12" and index == 1 else 1
        planes.append(rows[:, : plane.width * paired].copy())
    return planes
