"""Windows whose frames are image files, and the reading and checking of those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flavr._images import Rgb, examine, read_rgb
from flavr.datasets.base import Sample, Size
from flavr.errors import DataError


@dataclass(frozen=True, slots=True)
class Window:
    """The files of one sample, as names in a folder: the four inputs and the targets between them."""

    folder: Path
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    name: str
    origin: str = ""  # the line of a list that names this window

    def paths(self) -> list[Path]:
        return [self.folder / name for name in (*self.inputs, *self.targets)]


class ImageWindows:
    """A data set of image files, described by its windows; nothing is read before it is asked for.

    Args:
        windows: at least one.
        centre_crop: frames larger than this are cut to it about their middle, as the published tests do.
        one_size: the whole set has one size by definition; `check` names the images that differ.
        problems: what was wrong with the set's lists, for `check` to report.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        centre_crop: Size | None = None,
        one_size: bool = False,
        problems: Sequence[str] = (),
    ) -> None:
        self._windows = list(windows)
        self._centre_crop = centre_crop
        self._one_size = one_size
        self._problems = list(problems)

    def __len__(self) -> int:
        return len(self._windows)

    def name_of(self, index: int) -> str:
        return self._windows[index].name

    def __getitem__(self, index: int) -> Sample:
        window = self._windows[index]
        paths = window.paths()
        frames = [read_rgb(path) for path in paths]
        for path, frame in zip(paths, frames, strict=True):
            if frame.shape != frames[0].shape:
                raise DataError(_unequal(path, frame.shape[:2], paths[0], frames[0].shape[:2]))
        frames = [self._cropped(frame) for frame in frames]
        inputs, targets = frames[: len(window.inputs)], frames[len(window.inputs) :]
        return Sample(_stacked(inputs), _stacked(targets, like=frames[0]), window.name)

    def check(self, *, decode: bool = False, min_size: Size = (1, 1)) -> list[str]:
        folders = {window.folder: window.origin for window in self._windows}
        missing = {folder for folder in folders if not folder.is_dir()}
        present = [window for window in self._windows if window.folder not in missing]
        unique = list(dict.fromkeys(path for window in present for path in window.paths()))
        with ThreadPoolExecutor() as pool:
            found = dict(zip(unique, pool.map(partial(examine, decode=decode), unique), strict=True))
        sizes = {path: size for path, size in found.items() if not isinstance(size, str)}
        problems = [*self._problems, *(_no_folder(folder, folders[folder]) for folder in sorted(missing))]
        problems += [problem for problem in found.values() if isinstance(problem, str)]
        return problems + list(dict.fromkeys(self._size_problems(sizes, min_size)))

    def _size_problems(self, sizes: dict[Path, Size], min_size: Size) -> Iterator[str]:
        usual = Counter(sizes.values()).most_common(1)[0][0] if sizes and self._one_size else None
        example = next((path for path, size in sizes.items() if size == usual), None)
        for window in self._windows:
            paths = [path for path in window.paths() if path in sizes]
            for path in paths:
                size, (first, first_size) = sizes[path], (paths[0], sizes[paths[0]])
                if example is not None and usual is not None:
                    first, first_size = example, usual
                if size != first_size:
                    yield _unequal(path, size, first, first_size)
                elif size[0] < min_size[0] or size[1] < min_size[1]:
                    yield f"{path} is {_text(size)}, smaller than the crop of {_text(min_size)}; use --crop"

    def _cropped(self, frame: Rgb) -> Rgb:
        if self._centre_crop is None:
            return frame
        height, width = frame.shape[:2]
        crop_height, crop_width = min(height, self._centre_crop[0]), min(width, self._centre_crop[1])
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        return frame[top : top + crop_height, left : left + crop_width]


def _stacked(frames: Iterable[Rgb], like: Rgb | None = None) -> Tensor:
    """uint8 [N, 3, H, W] over frames [H, W, 3]; a view, since most of it will be cropped away."""
    listed = list(frames)
    if not listed and like is not None:
        return torch.empty((0, 3, *like.shape[:2]), dtype=torch.uint8)
    return torch.from_numpy(np.stack(listed)).permute(0, 3, 1, 2)


def _no_folder(folder: Path, origin: str) -> str:
    return f"{folder} is missing" + (f", though {origin} names it" if origin else "")


def _unequal(path: Path, size: tuple[int, ...], other: Path, other_size: tuple[int, ...]) -> str:
    return f"{path} is {_text(size)}, but {other} is {_text(other_size)}"


def _text(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
