"""The files that the rivals of rivals.py take, written where they are not there yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flavr import Flavr

__all__ = ["file_name", "write_files"]

_CLIP = "drawn"


def file_name(name: str, sha256: str, size: tuple[int, int], calibrate: Path | None = None) -> str:
    """What a file is called, so that one that was kept is taken for the same network, size and clips alone.

    Args:
        name: "plain", or a form as flavr-export spells it, "-int8" behind it if it is quantised.
        sha256: of the checkpoint.
        size: height and width.
        calibrate: clips for int8; None for a drawn one.
    """
    clips = _CLIP if calibrate is None else hashlib.sha256(bytes(calibrate.resolve())).hexdigest()[:8]
    kind = f"{sha256[:8]}-{size[0]}x{size[1]}" + f"-{clips}" * name.endswith("-int8")
    return f"{name}-{kind}.onnx"


def write_files(
    folder: Path,
    wanted: Iterable[str],
    ckpt: Path | None,
    width: int,
    size: tuple[int, int],
    calibrate: Path | None,
) -> dict[str, Path]:
    """Every file of `wanted` by its name, and "checkpoint"; without `ckpt`, random weights of a width."""
    from flavr import load_checkpoint, save_checkpoint
    from flavr_export import ExportSpec, export
    from plain_export import write_plain_export

    if ckpt is None:
        ckpt = folder / f"random-w{width}.pth"
        if not ckpt.exists():
            save_checkpoint(ckpt, _random_network(width))
    checkpoint = load_checkpoint(ckpt)
    files = {"checkpoint": ckpt}
    for name in sorted(set(wanted) - {"checkpoint"}):
        path = files[name] = folder / file_name(name, checkpoint.sha256, size, calibrate)
        if path.exists():
            continue
        if name == "plain":
            write_plain_export(checkpoint.network(), path, size)
        elif name.endswith("-int8"):
            clip = calibrate or _drawn_clip(folder)
            spec = ExportSpec(io="float", size=size)
            export(checkpoint, path, spec, precision="int8", calibrate=clip, calibrations=["minmax"])
        else:
            form: Any = name  # one of the forms
            export(checkpoint, path, ExportSpec(graph=form, io="float", size=size))
    return files


def _random_network(width: int) -> Flavr:
    """PyTorch's random weights, the last ones larger: they alone would make nothing but the mean picture."""
    import torch

    from flavr import Flavr, FlavrConfig

    torch.manual_seed(0)
    network = Flavr(FlavrConfig(width=width)).eval()
    with torch.inference_mode():
        frames = torch.rand(1, 3, 4, 64, 64)
        spread = (network(frames) - frames.mean(dim=(2, 3, 4)).reshape(1, 1, 3, 1, 1)).std()
        network.state_dict()["outconv.1.weight"].mul_(0.1 / spread)
    return network


def _drawn_clip(folder: Path) -> Path:
    """A folder of images."""
    import cv2

    from flavr_benchmarks.datasets import rendered_clip

    clip = folder / _CLIP
    clip.mkdir(exist_ok=True)
    for number, picture in enumerate(rendered_clip((128, 192), 32)):
        cv2.imwrite(str(clip / f"{number:03}.png"), picture[..., ::-1])
    return clip
