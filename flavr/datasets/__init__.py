"""Data sets for training and validation: one table of all that there are, and `open_dataset`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from flavr.datasets.base import DatasetKind, InterpolationDataset, Sample, Split
from flavr.datasets.scenes import MIDDLEBURY, UCF101
from flavr.datasets.sequences import DAVIS, GOPRO
from flavr.datasets.video import VIDEO
from flavr.datasets.vimeo import VIMEO
from flavr.errors import UsageError

__all__ = [
    "DATASETS",
    "DatasetKind",
    "InterpolationDataset",
    "Sample",
    "Split",
    "dataset_name",
    "open_dataset",
]

DATASETS: Mapping[str, DatasetKind] = {
    "vimeo90K_septuplet": VIMEO,
    "gopro": GOPRO,
    "ucf101": UCF101,
    "davis": DAVIS,
    "middlebury": MIDDLEBURY,
    "video": VIDEO,
}


def open_dataset(
    name: str, root: Path | str, split: Split, /, *, n_outputs: int = 1, **options: object
) -> InterpolationDataset:
    """Open a data set.

    Args:
        name: a key of DATASETS; case, dashes and underscores make no difference.
        root: its folder; `DATASETS[name].layout` says how that looks.
        n_outputs: frames to make per window: the factor - 1.
        options: the keyword parameters of `DATASETS[name].open`; only "video" has any.

    Raises:
        UsageError: no data set of that name, or it has no such split, n_outputs or option.
        DataError: the folder is not there, holds something else, or no window.
    """
    name = dataset_name(name)
    kind = DATASETS[name]
    if split not in kind.splits:
        raise UsageError(f"{name} has no {split} split; it is for {' and '.join(kind.splits)}ing only")
    if n_outputs < 1 or (kind.n_outputs is not None and n_outputs not in kind.n_outputs):
        allowed = "1 or more" if kind.n_outputs is None else " or ".join(map(str, kind.n_outputs))
        raise UsageError(f"{name} cannot give n_outputs {n_outputs}; it gives {allowed}")
    parameters = inspect.signature(kind.open).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "n_outputs"}
    for option, value in options.items():
        if option not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise UsageError(f"{name} has no option {option}; {has}")
        # Command lines pass on what people write, and every option is a number or several.
        kinds_of_it = str(known[option].annotation)
        fraction = "float" in kinds_of_it
        if isinstance(value, (tuple, list)) and not ("Sequence" in kinds_of_it or "Size" in kinds_of_it):
            raise UsageError(f"{option} {value!r} of {name}: one number is needed, not several")
        for number in value if isinstance(value, (tuple, list)) else (value,):
            if number is not None and not isinstance(number, (int, float) if fraction else int):
                kinds = "a number is" if fraction else "whole numbers are"
                raise UsageError(f"{option} {number!r} of {name}: {kinds} needed")
    return kind.open(Path(root), split, n_outputs=n_outputs, **options)


def dataset_name(name: str) -> str:
    """The name in DATASETS that is meant. Raises UsageError, naming the nearest."""
    plain = {_plain(known): known for known in DATASETS}
    if _plain(name) in plain:
        return plain[_plain(name)]
    begun = [known for known in plain if known.startswith(_plain(name))]
    near = begun or get_close_matches(_plain(name), plain, n=1)
    hint = f" (did you mean {plain[near[0]]}?)" if near else ""
    raise UsageError(f"no data set is called {name!r}{hint}; there are {', '.join(DATASETS)}")


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
