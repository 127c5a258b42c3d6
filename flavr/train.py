"""The `flavr-train` command; `torchrun --nnodes ... -m flavr.train` takes the same options."""

from __future__ import annotations

from typing import Any

from flavr._cli import main_with_errors
from flavr._options import SETTINGS, SectionedCommand, recipe_option, version_option
from flavr.training.config import TrainingConfig
from flavr.training.options import sections

_HELP = """Train FLAVR, on one GPU, on several, or on the CPU.

Writes to CHECKPOINT_DIR/EXP_NAME: checkpoint.pth and model_best.pth in the published layout (flavr-export and
flavr-test take them), results.csv, opts.json, validation.png and TensorBoard's files. Ctrl-C saves.
"""

_EXAMPLES = """\b
Examples:
  The published recipe, on one GPU and on four:
    flavr-train --batch_size 32 --test_batch_size 32 --dataset vimeo90K_septuplet --loss 1*L1 \\
        --max_epoch 200 --lr 0.0002 --data_root datasets --n_outputs 1 --num_gpu 1
    flavr-train ... --num_gpu 4
    flavr-train ... --num_gpu 4 --resume          go on where it stopped
    torchrun --nnodes 2 --nproc-per-node 4 ... -m flavr.train ...      on several machines
  A small network on your own videos, with one GPU:
    flavr-train --dataset video --data-root clips --width 16 --init blend --cache device --precision bf16 \\
        --schedule cosine --ema 0.999 --max-epoch 60 --steps-per-epoch 500 --permute-channels
  The recipe of the network that ships, from the start and on a GPU; the command line wins over the file:
    flavr-train --config recipes/flavr-lite.toml --data-root clips --init blend --max-epoch 60 --num-gpu 1
  A first try, without a GPU:
    flavr-data render -o datasets/mini
    flavr-train --data-root datasets/mini --width 16 --init blend --crop 64 --batch-size 4 \\
        --max-epoch 1 --num-gpu 0

Underscores and dashes mean the same in option names.
"""


def _run(**values: Any) -> None:
    for name in ("data_options", "val_data_options"):
        values[name] = dict(values[name])
    config = TrainingConfig(**values)

    from flavr.training.run import train
    from flavr.training.stopping import Stop

    if train(config).stop is Stop.INTERRUPT:
        raise KeyboardInterrupt


command = SectionedCommand(
    "flavr-train",
    callback=_run,
    help=_HELP,
    epilog=_EXAMPLES,
    context_settings=SETTINGS,
    sections=sections(),
    params=[recipe_option(), version_option()],
)


def main() -> None:
    """The entry point of `flavr-train`."""
    main_with_errors(command)


if __name__ == "__main__":
    main()
