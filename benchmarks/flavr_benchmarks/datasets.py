"""What is measured on: rendered windows for the time, a data set's windows for the quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flavr_benchmarks.cells import Size
from flavr_benchmarks.errors import UsageError
from flavr_benchmarks.schema import Data
from flavr_runtime.frames import Rgb

MINI = "mini"
NONE = "none"

VIMEO_TEST_SEQUENCES = 7824
"""Of the Vimeo-90K septuplet test list: published figures are means over all of them."""

_MINI_SIZE: Size = (256, 448)
_MINI_SEED = 1  # not that of the sets people train on
_TIMED_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class QualityWindow:
    """Four frames, and the true ones between the middle two."""

    name: str
    inputs: Sequence[Rgb]
    truth: Sequence[Rgb]


@dataclass(frozen=True, slots=True)
class QualitySet:
    """The windows that quality is measured on."""

    data: Data
    windows: list[QualityWindow]


def timed_windows(size: Size, count: int = _TIMED_WINDOWS) -> np.ndarray:
    """Rendered scenes that move, uint8 [count, 4, H, W, 3]: some kernels are faster on zeros or constants."""
    from flavr.rendering import RenderSpec, render_sequence

    spec = RenderSpec(train=count, test=0, height=size[0], width=size[1], seed=_MINI_SEED)
    return np.stack([np.stack(render_sequence(spec, number, frames=4)) for number in range(count)])


def rendered_clip(size: Size, frames: int) -> Sequence[Rgb]:
    """One scene, for flavr-run."""
    from flavr.rendering import RenderSpec, render_sequence

    spec = RenderSpec(train=1, test=0, height=size[0], width=size[1], seed=_MINI_SEED)
    return render_sequence(spec, 0, frames=frames)


def open_set(
    data: str, windows: int, factor: int, options: Mapping[str, object], size: Size | None = None
) -> QualitySet:
    """The windows named on the command line, evenly spread over the set.

    Args:
        data: mini, a folder (Vimeo's layout or videos), or NAME:FOLDER with a name that flavr-test knows.
        size: of the rendered set; other sets have their own.

    Raises:
        FlavrError: no such data set, or a broken one.
        UsageError: no such folder, or nothing in it that can be scored.
    """
    if data == MINI:
        return _mini(windows, factor, size or _MINI_SIZE)
    from flavr.datasets import DATASETS, dataset_name, open_dataset
    from flavr.validate import evenly

    name, root = split_data(data)
    name = dataset_name(name)
    dataset = open_dataset(name, root, "test", n_outputs=factor - 1, **options)
    chosen = [
        QualityWindow(
            sample.name,
            [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in sample.inputs],
            [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in sample.targets],
        )
        for sample in (dataset[index] for index in evenly(len(dataset), windows))
    ]
    known = [window for window in chosen if window.truth]
    if not known:
        raise UsageError(
            f"--data {data}: the truth of none of the {len(chosen)} windows taken is known, so nothing "
            "can be scored; name another set, or --data none"
        )
    description = f"{DATASETS[name].summary} ({root.name})"
    return QualitySet(
        Data(name=name, description=description, windows=len(known), of_windows=len(dataset)), known
    )


def split_data(data: str) -> tuple[str, Path]:
    """NAME:FOLDER, or a folder whose kind can be seen: the data set's name and its folder.

    Raises:
        UsageError: the folder is not there.
    """
    name, colon, rest = data.partition(":")
    if colon and not Path(data).exists():
        return name, Path(rest)
    root = Path(data)
    if not root.exists():
        raise UsageError(f"--data {data}: there is no such folder; mini needs none, none measures no quality")
    inside = (root, root / "vimeo90K_septuplet", root / "vimeo_septuplet")
    if any((folder / "sep_testlist.txt").is_file() for folder in inside):
        return "vimeo90K_septuplet", root
    return "video", root


def _mini(windows: int, factor: int, size: Size) -> QualitySet:
    from flavr._windows import roles, time_positions
    from flavr.rendering import RenderSpec, render_sequence

    spec = RenderSpec(train=0, test=windows, height=size[0], width=size[1], seed=_MINI_SEED)
    positions = time_positions(factor - 1)
    inputs, targets = roles(len(positions))
    found = []
    for number in range(windows):
        frames = render_sequence(spec, number, frames=positions[-1] + 1)
        picked = [frames[position] for position in positions]
        found.append(
            QualityWindow(f"scene {number + 1}", [picked[k] for k in inputs], [picked[k] for k in targets])
        )
    description = f"scenes rendered by flavr.rendering, {size[1]}x{size[0]}, seed {_MINI_SEED}"
    return QualitySet(Data(name=MINI, description=description, windows=windows, of_windows=windows), found)


def save_windows(folder: Path, windows: Sequence[QualityWindow]) -> None:
    """One file per window, for the cells' processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, window in enumerate(windows):
        np.savez(folder / f"{number:05d}.npz", inputs=np.stack(window.inputs))
