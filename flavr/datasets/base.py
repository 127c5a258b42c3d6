"""What every data set gives: windows of four input frames with the frames between the middle two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

Split = Literal["train", "test"]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Sample:
    """One window with its ground truth."""

    inputs: Tensor  # uint8 [4, 3, H, W], RGB
    targets: (
        Tensor  # uint8 [n, 3, H, W], RGB, in time order between inputs 1 and 2; n is 0 if they are unknown
    )
    name: str  # for people: a path, or clip:frame


@runtime_checkable
class InterpolationDataset(Protocol):
    """A map-style data set. It can be handed to torch's DataLoader, with workers or without."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample:
        """The window at `index`, whole frames. Raises DataError naming the path of what cannot be read."""
        ...

    def name_of(self, index: int, /) -> str:
        """`Sample.name` of a window, without reading it."""
        ...

    def check(self, *, decode: bool = False, min_size: Size = (1, 1)) -> list[str]:
        """Every problem found, one line each that names the path; empty when all is well.

        Args:
            decode: also read every image whole, which finds damage inside it (milliseconds per image);
                without, only its header and its end are read.
            min_size: height and width that every frame must have, such as the training crop.
        """
        ...


@dataclass(frozen=True, slots=True)
class DatasetKind:
    """A row of `flavr.datasets.DATASETS`."""

    summary: str
    layout: str  # the folder tree and what is read of it, for people
    # open(root, split, n_outputs=n, **options); its keyword-only parameters are the options there are
    open: Callable[..., InterpolationDataset]
    splits: tuple[Split, ...] = ("train", "test")
    n_outputs: tuple[int, ...] | None = None  # those that its files can give; None: any
