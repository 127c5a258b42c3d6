from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clips import Picture, render_clip
from flavr_runtime.cli import command
from flavr_runtime.errors import InputError
from flavr_runtime.frames import Frame
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.scenes import ListedCuts, detected_cuts
from model_files import write_blend_model


def scene(seed: int, shift: float, size: tuple[int, int] = (72, 96)) -> Picture:
    """A textured picture in two colours of its own, panned by `shift` pixels."""
    rng = np.random.default_rng(seed)
    dark, bright = rng.integers(0, 110, 3), rng.integers(130, 256, 3)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    wave = 0.5 + 0.5 * np.sin((x + shift) / rng.uniform(3, 9) + seed) * np.cos(y / rng.uniform(3, 9))
    return np.asarray(dark + wave[..., None] * (bright - dark), np.uint8)


def film(*lengths: int, pan: float = 1.5) -> list[Frame]:
    """Scenes of so many frames each."""
    pictures = [scene(seed, pan * n) for seed, length in enumerate(lengths, start=3) for n in range(length)]
    return [Frame(picture, Fraction(n, 25)) for n, picture in enumerate(pictures)]


def cuts_of(frames: Iterator[Frame]) -> list[int]:
    return [number for number, frame in enumerate(frames) if frame.starts_scene]


@pytest.mark.parametrize("lengths", [(12, 9), (2, 10, 2), (8, 3, 8), (6, 7, 8, 9), (20,), (3,), (2,), (1,)])
def test_cuts_are_found_wherever_they_are(lengths: tuple[int, ...]) -> None:
    expected = [sum(lengths[:n]) for n in range(1, len(lengths))]
    frames = film(*lengths)
    found = list(detected_cuts(frames))
    assert found == frames  # every frame passed on, in order
    assert cuts_of(iter(found)) == expected


@pytest.mark.parametrize("pan", [0.0, 4.0, 9.0])
def test_a_pan_is_no_cut(pan: float) -> None:
    assert cuts_of(detected_cuts(film(30, pan=pan))) == []


def test_a_fade_is_no_cut() -> None:
    first, second = scene(3, 0).astype(float), scene(4, 0)
    pictures = [(first + (second - first) * n / 24).astype(np.uint8) for n in range(25)]
    assert cuts_of(detected_cuts(Frame(p, Fraction(n)) for n, p in enumerate(pictures))) == []


@pytest.mark.parametrize("hold", [2, 3, 4])
def test_drawings_held_for_some_frames_are_no_cuts_and_cuts_between_them_are_found(hold: int) -> None:
    pictures = [frame.rgb for frame in film(5, 4, pan=4.0) for _ in range(hold)]
    assert cuts_of(detected_cuts(Frame(p, Fraction(n, 24)) for n, p in enumerate(pictures))) == [5 * hold]


def test_detection_looks_two_pictures_ahead_and_no_further() -> None:
    pulled = []

    def frames() -> Iterator[Frame]:
        for frame in film(20):
            pulled.append(frame)
            yield frame

    next(detected_cuts(frames()))
    assert len(pulled) == 4  # one more, to know that the last one is not repeated


def test_a_list_takes_frame_numbers_and_times(tmp_path: Path) -> None:
    path = tmp_path / "cuts.txt"
    path.write_text("# made by hand\n3\n\n0.2  # frame 5\n0:00:00.28\n")
    assert cuts_of(ListedCuts(path)(film(12))) == [3, 5, 7]


def test_a_bad_line_in_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cuts.txt"
    path.write_text("3\nsoon\n")
    with pytest.raises(InputError, match=r"cuts\.txt, line 2: 'soon' is no cut; write a frame number"):
        ListedCuts(path)
    with pytest.raises(InputError, match=r"none\.txt: the list of cuts cannot be read"):
        ListedCuts(tmp_path / "none.txt")


def flat(value: int, number: int, *, cut: bool = False) -> Frame:
    return Frame(np.full((4, 4, 3), value, np.uint8), Fraction(number), starts_scene=cut)


def values(frames: Iterator[Frame]) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in frames]


def test_the_nearer_frame_is_repeated_at_a_cut_in_the_middle_gap(tmp_path: Path) -> None:
    model = Interpolator(write_blend_model(tmp_path / "m.onnx"), provider="cpu")
    frames = [flat(10, 0), flat(20, 1), flat(200, 2, cut=True), flat(220, 3)]
    assert values(model.expand(frames, 2)) == [10, 15, 20, 20, 200, 210, 220]
    at_4x = list(model.expand(frames, 4))
    assert values(iter(at_4x))[4:9] == [20, 20, 20, 200, 200] or values(iter(at_4x))[4:9] == [
        20,
        20,
        20,
        20,
        200,
    ]
    assert [frame.origin for frame in at_4x[5:8]] == ["repeated"] * 3


@pytest.mark.parametrize("factor", [4, 8])
def test_a_fade_is_even_and_stays_between_its_two_frames(factor: int, tmp_path: Path) -> None:
    model = Interpolator(write_blend_model(tmp_path / "m.onnx", [(1, 0, 0, 0)]), provider="cpu")
    frames = [flat(v, n, cut=n == 2) for n, v in enumerate((8, 8 + 8, 216, 200))]
    cut_free = [flat(v, n) for n, v in enumerate((8, 16))]
    found = values(model.expand(frames, factor, cut_mode="blend"))
    step = 200 // factor
    assert found[factor : 2 * factor + 1] == [16 + step * n for n in range(factor + 1)]
    # The scene before is what it is without the one behind the cut.
    assert found[: factor + 1] == values(model.expand(cut_free, factor))


def test_a_cut_can_be_faded_instead(tmp_path: Path) -> None:
    black = write_blend_model(tmp_path / "black.onnx", [(0, 0, 0, 0)])
    frames = [flat(20, 0), flat(200, 1, cut=True)]
    model = Interpolator(black, provider="cpu")
    assert values(model.expand(frames, 2, cut_mode="blend")) == [20, 110, 200]


@pytest.mark.parametrize(("weights", "place"), [((1, 0, 0, 0), 0), ((0, 0, 0, 1), 3)])
def test_a_frame_across_a_cut_in_an_outer_gap_is_replaced_by_the_inner_one(
    weights: tuple[float, ...], place: int, tmp_path: Path
) -> None:
    model = Interpolator(write_blend_model(tmp_path / "m.onnx", [weights]), provider="cpu")
    values_in = [10, 20, 30, 40]
    uncut = [flat(v, n) for n, v in enumerate(values_in)]
    assert values(model.expand(uncut, 2))[3] == values_in[place]
    before = [flat(v, n, cut=n == 1) for n, v in enumerate(values_in)]
    after = [flat(v, n, cut=n == 3) for n, v in enumerate(values_in)]
    assert values(model.expand(before, 2))[3] == (20 if place == 0 else 40)
    assert values(model.expand(after, 2))[3] == (10 if place == 0 else 30)


def test_flavr_run_never_morphs_one_scene_into_the_next(tmp_path: Path) -> None:
    def two_scenes(index: int, width: int, height: int) -> Picture:
        return scene(3 if index < 7 else 4, 1.5 * index, (height, width))

    clip = render_clip(tmp_path / "cut.mkv", frames=14, codec="ffv1", picture=two_scenes)
    model = write_blend_model(tmp_path / "m.onnx")

    def run(*more: str) -> tuple[list[np.ndarray], str]:
        import av

        output = tmp_path / "out.mkv"
        arguments = [str(clip), "-o", str(output), "--model", str(model), "--codec", "ffv1", "-y", *more]
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
        with av.open(str(output)) as container:
            return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)], result.stderr

    frames, printed = run()
    assert "; 1 cuts)" in printed
    np.testing.assert_array_equal(frames[13], frames[12])
    frames, _ = run("--cuts", "off")
    assert np.abs(frames[13].astype(int) - frames[12]).mean() > 10
    (tmp_path / "cuts.txt").write_bytes(b"\xef\xbb\xbf5\r\n")
    frames, printed = run("--cuts", str(tmp_path / "cuts.txt"))
    np.testing.assert_array_equal(frames[9], frames[8])
    assert "past the last frame" not in printed


def test_cuts_past_the_end_are_told_as_they_are_written(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "clip.mkv", frames=5, codec="ffv1")
    model = write_blend_model(tmp_path / "m.onnx")
    cuts = tmp_path / "cuts.txt"

    def told(text: str) -> list[str]:
        cuts.write_text(text)
        arguments = [
            str(clip),
            "-o",
            str(tmp_path / "out.mkv"),
            "--model",
            str(model),
            "-y",
            "--cuts",
            str(cuts),
        ]
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
        return [line for line in result.stderr.splitlines() if "past the last frame" in line]

    assert told("4\n") == []
    assert told("5\n") == [f"note: the cut at 5 lies past the last frame; see {cuts}"]
    more = f"note: the cuts at 12, 300 and 0:01:02.5 lie past the last frame; see {cuts}"
    assert told("300\n2 # here it is\n0:01:02.5\n12\n") == [more]
