"""Draw the validation PSNR of a flavr-train run against that of averaging the middle frames.

python benchmarks/training_curve.py checkpoints/video/results.csv --average 29.371 -o curve.svg
"""

from __future__ import annotations

import csv
from pathlib import Path

import click

_LABELS = 9  # next to each other, without touching


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--average", type=float, required=True, help="PSNR of averaging: flavr-train prints it.")
@click.option("--start", type=float, help="PSNR of the weights that the run started from.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=".svg or .png")
@click.option("--title", default="Validation PSNR", show_default=True)
def main(results: Path, average: float, start: float | None, output: Path, title: str) -> None:
    """Draw RESULTS, the results.csv of a run."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    # fixed ids and no date: the same figures give the same file
    mpl.rcParams["svg.hashsalt"] = "flavr"
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    scores = [float(row["psnr"]) for row in rows]
    if start is not None:
        epochs, scores = [0, *epochs], [start, *scores]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.plot(epochs, scores, marker="o", label="FLAVR, width 16")
    axes.axhline(average, color="gray", linestyle="--", label="averaging the middle frames")
    apart = -(-len(epochs) // _LABELS)
    # from the last one backwards: that is the one that people want to read
    for epoch, score in list(zip(epochs, scores, strict=True))[::-1][::apart]:
        axes.annotate(
            f"{score - average:+.2f}", (epoch, score), (0, 6), textcoords="offset points", ha="center"
        )
    axes.set(xlabel="epoch", ylabel="PSNR in dB", title=title, xticks=epochs)
    axes.set_ylim(average - 0.15, max(scores) + 0.2)
    axes.legend(loc="center right")
    figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None, dpi=110)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
