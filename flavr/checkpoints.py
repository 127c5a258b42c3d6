"""Reading and writing FLAVR checkpoints, whoever made them.

Understood: the published layout (`{epoch, state_dict, optimizer, lr, best_psnr}`, keys with or without
`module.`), bare state dicts, MMagic's FLAVR, safetensors, and our own. Depth, width, factor, bias and
variant are read off the tensors. Pickles are opened with `weights_only=True`: they cannot run code.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flavr._files import complete
from flavr._keys import canonical_keys
from flavr._memory import is_out_of_memory
from flavr.config import BLOCKS, Arch, FlavrConfig, Join
from flavr.errors import CheckpointError
from flavr.network import Flavr

StateDict = dict[str, Tensor]

# Published training scripts stored best_psnr as a NumPy scalar and some forks their argparse options.
# These types hold plain values and do nothing when unpickled.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]  # the function that rebuilds one
SAFE_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
    _NUMPY_SCALAR,
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
]
_SHOWN = 3  # tensors named in an error before "and N more"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read and found to hold a FLAVR network."""

    path: Path
    config: FlavrConfig
    state_dict: StateDict = field(repr=False)  # published key names, float32
    sha256: str  # of the file
    epoch: int | None = None
    best_psnr: float | None = None  # dB, as its training run measured it
    notices: tuple[str, ...] = ()  # what had to be assumed, one sentence each

    def network(self) -> Flavr:
        """Build the network with these weights, in evaluation mode."""
        network = Flavr(self.config)
        network.load_state_dict(self.state_dict)
        return network.eval()


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a FLAVR checkpoint (.pth, .pt, .ckpt or .safetensors).

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, wants to run code, or holds another
            network; the first tensors that do not fit are named.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a checkpoint file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; give the path of a .pth or .safetensors file")
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    tensors = canonical_keys(_find_state_dict(content, path))
    declared, epoch = content.get("flavr"), _number(content.get("epoch"))
    config, notices = _infer(tensors, declared if isinstance(declared, Mapping) else {}, path)
    return Checkpoint(
        path=path,
        config=config,
        state_dict=_fit(tensors, config, path),
        sha256=file_sha256(path),
        epoch=None if epoch is None else int(epoch),
        best_psnr=_number(content.get("best_psnr")),
        notices=tuple(notices),
    )


def infer_config(state_dict: Mapping[str, Tensor]) -> FlavrConfig:
    """Read a network's configuration off its tensors (any of the key namings that `load_checkpoint` knows).

    `join="add"` and `join="none"` have the same tensors; "add" is assumed.

    Raises:
        CheckpointError: these are not the tensors of a FLAVR network.
    """
    return _infer(canonical_keys(state_dict), {}, Path("state dict"))[0]


def save_checkpoint(
    path: Path | str,
    network: Flavr,
    *,
    epoch: int = 0,
    lr: float = 0.0,
    best_psnr: float = 0.0,
    assumed: bool = False,
) -> None:
    """Write the published layout, loadable by the published code, under its name only when complete.

    `assumed`: the network's join was, where its weights come from; who loads these is told so again.

    Raises:
        CheckpointError: it cannot be written, such as for want of space; what was there before is untouched.
    """
    content = {
        "epoch": epoch,
        "state_dict": {f"module.{key}": tensor for key, tensor in network.state_dict().items()},
        "lr": lr,
        "best_psnr": best_psnr,
        "flavr": declaration(network.config, assumed=assumed),
    }
    with complete(Path(path), CheckpointError) as partial, partial.open("wb") as file:
        torch.save(content, file)


def declaration(config: FlavrConfig, *, assumed: bool) -> dict[str, object]:
    """What a file says of its network: all but a join that is `assumed`, as add and none look the same."""
    return {key: value for key, value in asdict(config).items() if key != "join" or not assumed}


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals(SAFE_TYPES):
            # mmap keeps the Adam state of a 480 MB published file out of memory; old files are no zips
            mmap = zipfile.is_zipfile(path) and _is_text(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL (\w[\w.]*\w)", str(error))
        if unsafe:
            raise CheckpointError(
                f"{path} was not loaded: it wants to run {unsafe[1]} on loading; "
                "ask its owner for the state dict alone, or a .safetensors file"
            ) from error
        raise CheckpointError(f"{path} is not a PyTorch checkpoint, or is truncated or damaged") from error
    except Exception as error:  # damaged bytes fail in every way there is: struct.error, TypeError, ...
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{path} is not a PyTorch checkpoint, or is truncated or damaged") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a state dict; save it with "
            "torch.save(model.state_dict(), path)"
        )
    return content


def _is_text(path: Path) -> bool:
    """Whether PyTorch can map a file of this name: not if it has bytes that are not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path} needs the safetensors package: pip install safetensors") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is truncated or damaged") from error


# Names under which training scripts save the network's tensors; of several, the first one counts. A mean of
# the weights beside them is taken only where there is nothing else.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params", "net", "network", "ema")
_DEEPEST = 2  # one inside another; a file may be made to hold itself


def _find_state_dict(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    for _ in range(_DEEPEST):
        held = [content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        content = next(filter(None, held), content)
    # A nested tensor has no one shape to be checked.
    tensors = {
        str(key): value for key, value in content.items() if isinstance(value, Tensor) and not value.is_nested
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors; its entries are {_listed(list(map(str, content)))}")
    return tensors


def _infer(
    tensors: Mapping[str, Tensor], declared: Mapping[str, Any], path: Path
) -> tuple[FlavrConfig, list[str]]:
    """The configuration, and what had to be assumed. `declared` settles what the tensors leave open."""

    def shape(key: str, rank: int) -> torch.Size:
        if key not in tensors:
            raise CheckpointError(
                f"{path} is not a FLAVR network: it has no tensor {key}; it has {_listed(list(tensors))}"
            )
        if tensors[key].ndim != rank:
            raise CheckpointError(
                f"{path} is not a FLAVR network: {key} has shape {list(tensors[key].shape)}, "
                f"not {rank} dimensions"
            )
        return tensors[key].shape

    width = shape("encoder.stem.0.weight", 5)[0]
    out_channels = shape("outconv.1.weight", 4)[0]
    if width < 1:
        raise CheckpointError(f"{path} is not a FLAVR network: encoder.stem.0.weight has no channels")
    if out_channels < 3 or out_channels % 3:
        raise CheckpointError(
            f"{path} is not a FLAVR network: outconv.1.weight makes {out_channels} channels, "
            "not 3 for each new frame"
        )
    upsample = "decoder.1.upconv.2.attn_layer.0.weight" in tensors
    joined = shape(f"decoder.1.upconv.{int(upsample)}.weight", 5)[int(upsample)]
    notices = []
    join: Join = "concat"
    if joined == 4 * width:
        join = "none" if declared.get("join") == "none" else "add"
        if declared.get("join") not in ("add", "none"):
            notices.append("joinType add is assumed: add and none have the same tensors")
    config = FlavrConfig(
        factor=out_channels // 3 + 1,
        arch=_arch(tensors, path),
        width=width,
        join=join,
        upmode="upsample" if upsample else "transpose",
        batchnorm="encoder.stem.1.running_mean" in tensors,
        encoder_bias="encoder.stem.0.bias" in tensors,
    )
    return config, notices


def _arch(tensors: Mapping[str, Tensor], path: Path) -> Arch:
    counts = tuple(
        len({key.split(".")[2] for key in tensors if key.startswith(f"encoder.layer{n}.")})
        for n in range(1, 5)
    )
    # A missing block is a missing tensor, to be named by _fit: choose the network that is meant.
    fitting = [
        arch for arch, blocks in BLOCKS.items() if all(a <= b for a, b in zip(counts, blocks, strict=True))
    ]
    if not fitting:
        known = ", ".join(f"{arch} {blocks}" for arch, blocks in BLOCKS.items())
        raise CheckpointError(f"{path} has {counts} residual blocks per layer; known networks are {known}")
    return min(fitting, key=lambda arch: sum(BLOCKS[arch]))


def _fit(tensors: Mapping[str, Tensor], config: FlavrConfig, path: Path) -> StateDict:
    """Check every tensor against the network that `config` describes; return them as float32."""
    try:
        with torch.device("meta"):
            expected = Flavr(config).state_dict()
    except (RuntimeError, OverflowError) as error:  # a file can claim any width without holding it
        raise CheckpointError(
            f"{path} is not a FLAVR network: none can be built of width {config.width} "
            f"for {config.n_outputs} new frames"
        ) from error
    # A counter that inference does not use, and that some exporters drop.
    fallback = {
        key: torch.zeros((), dtype=torch.long) for key in expected if key.endswith("num_batches_tracked")
    }
    wrong_shape = [
        f"{key} (shape {list(tensors[key].shape)}, not {list(want.shape)})"
        for key, want in expected.items()
        if key in tensors and tensors[key].shape != want.shape
    ]
    # Quantised weights, say: without their scales the numbers mean something else.
    wrong_type = [
        f"{key} ({_kind(tensors[key])})"
        for key, want in expected.items()
        if key in tensors and not _is_plain(tensors[key], want)
    ]
    missing = [key for key in expected if key not in tensors and key not in fallback]
    unknown = [key for key in tensors if key not in expected]
    problems = [
        f"{title} {_listed(names)}"
        for title, names in (
            ("missing", missing),
            ("misshapen", wrong_shape),
            ("not plain floating point", wrong_type),
            ("unknown", unknown),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit FLAVR {config.arch} width {config.width}: {'; '.join(problems)}"
        )
    # Copied out of the mapped file, which a training run may rewrite in place while the weights are in use.
    state = {
        key: fallback[key] if key not in tensors else tensors[key].to(want.dtype, copy=True)
        for key, want in expected.items()
    }
    broken = [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinite weights in {_listed(broken)}; use an earlier one"
        )
    return state


def _is_plain(tensor: Tensor, want: Tensor) -> bool:
    """Whether it holds numbers that become those of `want`: a tensor of the meta device holds none."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and (tensor.is_floating_point() or not want.is_floating_point())
    )


def _kind(tensor: Tensor) -> str:
    device = "" if tensor.device.type == "cpu" else f", {tensor.device.type}"
    return f"{tensor.dtype}, {tensor.layout}{device}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = [name if name.isprintable() else repr(name) for name in names[:_SHOWN]]  # stays one line
    return ", ".join(shown) + more if names else "none"


def _number(value: object) -> float | None:
    """A finite number from what training scripts stored as int, float, NumPy scalar or tensor of one."""
    try:
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
    except (RuntimeError, OverflowError):  # a tensor that holds nothing; an int beyond every float
        return None
    return number if math.isfinite(number) else None
