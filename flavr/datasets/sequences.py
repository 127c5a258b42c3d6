"""Sets that are folders of numbered frames: GoPro (240 frames per second) and DAVIS."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from flavr._paths import folders_in, images_in
from flavr._windows import roles, time_positions
from flavr.datasets._roots import find_root
from flavr.datasets.base import DatasetKind, Size, Split
from flavr.datasets.images import ImageWindows, Window
from flavr.errors import DataError

_GOPRO_LAYOUT = """\
ROOT/train/CLIP/000001.png ..    consecutive frames, any numbering, any image format
ROOT/test/CLIP/000001.png ..
Inputs are n_outputs + 1 frames apart (8 for 8x), the targets are the frames between the middle two, and a new
window starts every n_outputs + 1 frames. For testing, the middle 512x512 of each frame is taken."""
_DAVIS_LAYOUT = """\
ROOT/CLIP/00000.jpg ..           consecutive frames, any numbering, any image format
ROOT may also be the folder that holds JPEGImages/480p.
Windows are cut as for gopro. The middle 840x480 of each frame is taken."""

_GOPRO_TEST_CROP = (512, 512)
_DAVIS_CROP = (480, 840)


def open_gopro(root: Path, split: Split, *, n_outputs: int) -> ImageWindows:
    """The windows of the clips in a split's folder; whole frames for training, their middle for testing."""
    root = find_root(root, "gopro", lambda folder: (folder / split).is_dir(), f"no {split} folder")
    return _open(root / split, n_outputs, _GOPRO_TEST_CROP if split == "test" else None)


def open_davis(root: Path, split: Split, *, n_outputs: int) -> ImageWindows:
    """The windows of all clips."""
    del split  # test, as DAVIS says
    return _open(find_root(root, "davis", _holds_clips, "no folder of frames"), n_outputs, _DAVIS_CROP)


def _holds_clips(folder: Path) -> bool:
    return any(images_in(clip) for clip in folders_in(folder))


def _open(root: Path, n_outputs: int, centre_crop: Size | None) -> ImageWindows:
    clips = {clip: images_in(clip) for clip in folders_in(root)}
    if not any(clips.values()):
        raise DataError(f"{root} holds no folder of frames")
    runs = {clip: list(_unbroken_runs(frames)) for clip, frames in clips.items()}
    windows = [
        window for clip, parts in runs.items() for run in parts for window in _windows(clip, run, n_outputs)
    ]
    if not windows:
        needed = 3 * (n_outputs + 1) + 1
        longest = max(len(run) for parts in runs.values() for run in parts)
        raise DataError(
            f"{root}: its longest clip has {longest} frames; {needed} are needed for n_outputs {n_outputs}"
        )
    gaps = (
        f"{clip} has a gap: frames are missing between {before[-1].name} and {after[0].name}"
        for clip, parts in runs.items()
        for before, after in itertools.pairwise(parts)
    )
    return ImageWindows(windows, centre_crop=centre_crop, problems=list(gaps))


def _unbroken_runs(frames: list[Path]) -> Iterator[list[Path]]:
    """Split where the numbering jumps: frames that are not neighbours must not pass for such."""
    run: list[Path] = []
    for path in frames:
        if run and _number(path) != _number(run[-1]) + 1:
            yield run
            run = []
        run.append(path)
    if run:
        yield run


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise DataError(f"{path} has no number in its name; a clip's frames are numbered")
    return int(digits[-1])


def _windows(clip: Path, run: list[Path], n_outputs: int) -> Iterator[Window]:
    positions = time_positions(n_outputs)
    inputs, targets = roles(len(positions))
    for start in range(0, len(run) - positions[-1], n_outputs + 1):
        names = [run[start + position].name for position in positions]
        yield Window(
            clip,
            tuple(names[k] for k in inputs),
            tuple(names[k] for k in targets),
            f"{clip.name}/{names[0]}",
        )


GOPRO = DatasetKind("GoPro clips of 240 frames per second, for any factor", _GOPRO_LAYOUT, open_gopro)
DAVIS = DatasetKind("DAVIS clips at 480p, for testing", _DAVIS_LAYOUT, open_davis, splits=("test",))
