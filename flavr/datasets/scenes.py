"""Test sets of single scenes: UCF101 and Middlebury."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from flavr._files import complete, explained
from flavr._images import write_png
from flavr._paths import folders_in, images_in
from flavr.datasets._roots import find_root
from flavr.datasets.base import DatasetKind, Split
from flavr.datasets.images import ImageWindows, Window
from flavr.errors import DataError

_UCF101_LAYOUT = """\
ROOT/SCENE/frame0.png .. frame3.png, framet.png
Also accepted: frame_0, frame00 and frame_00 for the inputs, frame_t for the target; any image format.
Inputs are frames 0 to 3, the target is frame t. The middle 224x224 of each frame is taken."""
_MIDDLEBURY_LAYOUT = """\
ROOT/SCENE/frame09.png .. frame12.png    ROOT may also be the folder that holds eval-data, other-data or both
ROOT/SCENE/frame10i11.png                the truth, where it is known, there or in ROOT/other-gt-interp/SCENE
Where frame09 or frame12 is missing (scenes of two frames) its neighbour stands in. Without the truth a sample
has no target. Results are written as OUTPUT/SCENE/frame10i11.png, the leaderboard's form."""

_UCF101_CROP = (224, 224)
_UCF101_FRAME = re.compile(r"frame_?(?:0?([0-3])|(t))", re.IGNORECASE)
_UCF101_ROLES = ("0", "1", "2", "3", "t")
_RESULT = "frame10i11.png"
_TRUTH_FOLDER = "other-gt-interp"


def open_ucf101(root: Path, split: Split, *, n_outputs: int) -> ImageWindows:
    """One window per scene. A scene that lacks a frame is kept: reading or checking it names the frame."""
    del split, n_outputs  # test and 1, as UCF101 says
    root = find_root(
        root,
        "ucf101",
        lambda folder: any(map(_ucf101_frames, folders_in(folder))),
        "no scene with frame0 and so on",
    )
    windows = []
    for scene in folders_in(root):
        found = _ucf101_frames(scene)
        if found:
            names = [found.get(role, f"frame{role}.png") for role in _UCF101_ROLES]
            windows.append(Window(scene, tuple(names[:4]), (names[4],), scene.name))
    return ImageWindows(windows, centre_crop=_UCF101_CROP)


def _ucf101_frames(scene: Path) -> dict[str, str]:
    matches = ((path, _UCF101_FRAME.fullmatch(path.stem)) for path in images_in(scene))
    return {(match[1] or match[2]).lower(): path.name for path, match in matches if match}


def open_middlebury(root: Path, split: Split, *, n_outputs: int) -> ImageWindows:
    """One window per scene; targets are empty where the truth is not known."""
    del split, n_outputs  # test and 1, as MIDDLEBURY says
    root = find_root(root, "middlebury", lambda folder: bool(_scenes(folder)), "no scene with frame10.png")
    return ImageWindows([_middlebury_window(scene, root) for scene in _scenes(root)])


def _scenes(root: Path) -> list[Path]:
    homes = (root, root / "eval-data", root / "other-data")
    scenes = [scene for home in homes if home.is_dir() for scene in folders_in(home)]
    return [scene for scene in scenes if (scene / "frame10.png").exists()]


def _middlebury_window(scene: Path, root: Path) -> Window:
    before, after = (
        outer if (scene / outer).exists() else inner
        for outer, inner in (("frame09.png", "frame10.png"), ("frame12.png", "frame11.png"))
    )
    homes = [scene, *(home / _TRUTH_FOLDER / scene.name for home in (root, root.parent))]
    truths = [str((home / _RESULT).resolve()) for home in homes if (home / _RESULT).exists()]
    return Window(scene, (before, "frame10.png", "frame11.png", after), tuple(truths[:1]), scene.name)


def write_result(folder: Path, scene: str, frame: Tensor) -> Path:
    """Write a Middlebury scene's new frame where the leaderboard looks for it.

    Args:
        folder: of all results; made if it is not there.
        scene: the sample's name.
        frame: uint8 [3, H, W], RGB.

    Raises:
        DataError: the file cannot be written.
    """
    path = folder / scene / _RESULT
    with explained(path.parent, DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
    with complete(path, DataError) as partial:
        write_png(partial, frame.permute(1, 2, 0).cpu().numpy())
    return path


UCF101 = DatasetKind(
    "UCF101 scenes, for testing", _UCF101_LAYOUT, open_ucf101, splits=("test",), n_outputs=(1,)
)
MIDDLEBURY = DatasetKind(
    "Middlebury scenes, for the leaderboard",
    _MIDDLEBURY_LAYOUT,
    open_middlebury,
    splits=("test",),
    n_outputs=(1,),
)
