"""Settings of flavr-train against each other: short runs on the same windows from the same weights.

Each variant is flavr-train itself with the options of a recipe and its own, one after the other, same seed.
What differs by less than two runs of one variant do (try `again=`) is noise.

    python benchmarks/training_trial.py recipes/flavr-lite.toml --data-root clips --load-from model.pth \
        --steps 300 --variant "adam=--optimizer adam" --variant "muon=--optimizer muon"
"""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from machine import cpu_name


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data-root", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--load-from", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--steps", default=300, show_default=True, help="Between validations.")
@click.option("--epochs", default=1, show_default=True, help="Validations.")
@click.option("--variant", "variants", multiple=True, required=True, metavar="NAME=OPTIONS")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    recipe: Path,
    data_root: Path,
    load_from: Path | None,
    steps: int,
    epochs: int,
    variants: tuple[str, ...],
    seed: int,
    output: Path | None,
) -> None:
    """Train by RECIPE once for every variant and list the validation PSNR."""
    options = dict(_variant(text) for text in variants)
    fixed = ["--config", str(recipe), "--data-root", str(data_root), "--seed", str(seed)]
    fixed += ["--steps-per-epoch", str(steps), "--max-epoch", str(epochs)]
    if load_from is not None:
        fixed += ["--load-from", str(load_from)]
    found: dict[str, list[dict[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, own in options.items():
            place = ["--checkpoint-dir", folder, "--exp-name", name]
            command = [sys.executable, "-m", "flavr.train", *fixed, *place, *own]
            if subprocess.run(command, check=False).returncode:
                raise click.ClickException(f"variant {name} failed: {shlex.join(command)}")
            with (Path(folder) / name / "results.csv").open(newline="") as file:
                found[name] = list(csv.DictReader(file))
    print(f"{'variant':<20}{'loss':>9}{'windows/s':>11}   PSNR after each {steps} steps")
    for name, rows in found.items():
        last = rows[-1]
        scores = "  ".join(f"{float(row['psnr']):.3f}" for row in rows)
        print(
            f"{name:<20}{float(last['train_loss']):>9.5f}{float(last['samples_per_s']):>11.1f}   {scores} dB"
        )
    if output is not None:
        report = {
            "benchmark": "training_trial",
            "recipe": recipe.name,
            "from": load_from.name if load_from else None,
            "steps": steps,
            "seed": seed,
            "cpu": cpu_name(),
            "variants": {name: {"options": options[name], "epochs": rows} for name, rows in found.items()},
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _variant(text: str) -> tuple[str, list[str]]:
    name, equals, options = text.partition("=")
    if not name or not equals or "/" in name:
        raise click.BadParameter(f"{text}: write NAME=OPTIONS, such as 'adam=--optimizer adam'")
    return name, shlex.split(options)


if __name__ == "__main__":
    main()
