"""Starting from some of another network's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flavr.checkpoints import load_checkpoint
from flavr.errors import CheckpointError
from flavr.network import Flavr


@dataclass(frozen=True, slots=True)
class Fit:
    """What came over from another checkpoint."""

    loaded: int  # tensors
    skipped: tuple[str, ...]  # one line for each tensor that did not: which, and why


def load_fitting(network: Flavr, path: Path) -> Fit:
    """Load every tensor of a checkpoint whose name and shape fit `network`; the others stay as they are.

    Raises:
        CheckpointError: it is no FLAVR checkpoint, or nothing in it fits.
    """
    theirs, ours = load_checkpoint(path).state_dict, network.state_dict()
    fitting = {
        key: tensor for key, tensor in theirs.items() if key in ours and tensor.shape == ours[key].shape
    }
    if not any(tensor.ndim > 1 for tensor in fitting.values()):  # the last bias, of 3 values, fits everywhere
        key = next(iter(ours))
        raise CheckpointError(
            f"{path} has nothing that fits this network: {key} is {list(theirs[key].shape)} there "
            f"and {list(ours[key].shape)} here; is --width the same?"
        )
    network.load_state_dict(fitting, strict=False)
    skipped = [
        f"{key} (shape {list(theirs[key].shape)} there, {list(tensor.shape)} here)"
        if key in theirs
        else f"{key} (not there)"
        for key, tensor in ours.items()
        if key not in fitting
    ]
    skipped += [f"{key} (not here)" for key in theirs if key not in ours]
    return Fit(len(fitting), tuple(skipped))
