"""How far a step of each layer reaches: what it changes of the frames that a network makes.

A step of `--optimizer muon` has one size for all layers. Here every convolution in turn takes ten such steps
at once in a random direction, as it is and with its bias making up for the mean of its inputs (`--centre`);
the change of the frames is in code values of 8 bits, root mean square.

    python benchmarks/step_reach.py release/flavr_lite_2x.pth --data-root clips --json reach.json
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
from torch import Tensor

from flavr import Flavr, load_checkpoint
from flavr.datasets.video import open_video
from flavr.training.centring import Centring
from flavr.training.muon import Muon
from machine import cpu_name

_STEPS = 10  # as one: the change of a single one is near float32's rounding in deep layers


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data-root", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--lr", default=5e-4, show_default=True)
@click.option("--crops", default=8, show_default=True)
@click.option("--side", default=96, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(checkpoint: Path, data_root: Path, lr: float, crops: int, side: int, output: Path | None) -> None:
    """Measure the layers of CHECKPOINT on crops of the training videos in DATA_ROOT."""
    network = load_checkpoint(checkpoint).network().train()
    bank = open_video(data_root, "train", n_outputs=network.config.n_outputs, val_fraction=0.2).bank
    frames, _ = bank.sample_batch(crops, side, torch.Generator().manual_seed(0))
    centring = Centring(network)
    with torch.enable_grad():  # its hooks measure means in training alone
        made = network(frames).detach()
    rows = {}
    for name, _ in network.named_parameters():
        if name.endswith(".weight") and "attn_layer" not in name:
            rows[name.removesuffix(".weight")] = _reach(network, name, frames, made, centring, lr)
    print(f"{'layer':<28}{'as it is':>10}{'centred':>10}   code values, {_STEPS} steps at {lr:g}")
    for name, (plain, centred) in rows.items():
        print(f"{name:<28}{plain:>10.3f}{centred:>10.3f}")
    if output is not None:
        report = {
            "benchmark": "step_reach",
            "checkpoint": checkpoint.name,
            "steps": _STEPS,
            "lr": lr,
            "crops": crops,
            "side": side,
            "cpu": cpu_name(),
            "layers": {name: {"plain": plain, "centred": centred} for name, (plain, centred) in rows.items()},
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _reach(
    network: Flavr, name: str, frames: Tensor, made: Tensor, centring: Centring, lr: float
) -> tuple[float, float]:
    """The change of the frames by a step, without and with the bias making up for it."""
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    weight = network.get_parameter(name)
    centring.before()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    Muon([(name, weight)], lr=_STEPS * lr, betas=(0.9, 0.99)).step()
    weight.grad = None
    changes = []
    with torch.no_grad():
        changes.append(_difference(network(frames), made))
        centring.after()
        changes.append(_difference(network(frames), made))
        for key, parameter in network.named_parameters():
            parameter.copy_(before[key])
    plain, centred = changes
    return plain, centred


def _difference(a: Tensor, b: Tensor) -> float:
    return 255 * float((a - b).square().mean().sqrt())


if __name__ == "__main__":
    main()
