"""Every option of a training run, and what can be said of it without any file. Imports no PyTorch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flavr.config import ENSEMBLES, MULTIPLE, Arch, FlavrConfig, Join, Upmode
from flavr.errors import CheckpointError, UsageError

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["plateau", "cosine", "trapezoid"]
OptimizerName = Literal["adam", "muon"]
Start = Literal["published", "blend"]
Cache = Literal["none", "device"]

_CHECKPOINT = "checkpoint.pth"
_BEST = "model_best.pth"


_TEACHER_SHARE, _TEACHER_ENSEMBLE = 0.75, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One training run. The defaults are the published recipe: batches of 32 crops of 256x256, Adam with
    betas (0.9, 0.99) at 2e-4, halved when the validation loss has not fallen for 5 epochs, 200 epochs, L1."""

    # data
    data_root: Path
    dataset: str = "vimeo90K_septuplet"
    n_outputs: int | None = None  # None: as for the network below, else 1
    val_fraction: float | None = None  # of the videos; None: the data set's own test split
    val_windows: int | None = None  # at most so many, evenly spread; None: all
    data_options: Mapping[str, object] = field(default_factory=dict)  # what the data set understands besides
    val_data_options: Mapping[str, object] = field(default_factory=dict)  # where those differ for validation
    check_data: bool = False
    num_workers: int | None = None  # per process; None: one per core, 1 with the CPU
    cache: Cache = "none"
    # augmentation
    crop: int = 256
    crop_places: int = 1
    crop_drift: int = 0
    flip: bool = True
    jitter: float = 0.05
    reverse: bool = True
    permute_channels: bool = False
    turn: bool = False
    # network; None: as in the checkpoint that the run starts from, else as published
    arch: Arch | None = None
    width: int | None = None
    join: Join | None = None
    upmode: Upmode | None = None
    encoder_bias: bool | None = None  # where the start needs it, too
    init: Start = "published"
    load_from: Path | None = None
    pretrained: Path | None = None
    # learning from a network
    teacher: Path | None = None
    teacher_share: float = _TEACHER_SHARE  # of a target; the rest is the truth
    teacher_ensemble: int = _TEACHER_ENSEMBLE
    # optimisation
    loss: str = "1*L1"
    batch_size: int = 32  # over all processes together
    max_epoch: int = 200
    steps_per_epoch: int | None = None  # None: once through the data
    optimizer: OptimizerName = "adam"
    lr: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.99
    schedule: Schedule = "plateau"
    warmup_steps: int | None = None  # cosine and trapezoid; None: a twentieth of the run, at most 1000
    clip_grad: float | None = None
    centre: bool = False
    outer_rate: float = 1.0  # of Muon
    ema: float | None = None
    seed: int = 12345
    # hardware
    num_gpu: int | None = None  # 0: CPU; None: 1 where there is one
    num_procs: int = 1  # with the CPU
    precision: Precision = "fp32"
    channels_last: bool | None = None  # None: where it was measured to be faster
    winograd: bool | None = None  # None: where it was measured to be faster
    compile: bool = False
    # the run
    test_batch_size: int = 32
    val_freq: int = 1
    time_limit: float | None = None  # minutes
    checkpoint_dir: Path = Path("checkpoints")
    exp_name: str | None = None  # None: the data set's name
    resume: bool = False
    tensorboard: bool = True
    log_iter: int = 60

    def __post_init__(self) -> None:
        """Raise UsageError for values that no run can have, naming the option as the command line has it."""
        for name, (allows, allowed) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not allows(value):
                raise UsageError(f"{option(name)} {value}: it must be {allowed}")
        for wrong, message in (
            (
                self.num_procs > 1 and self.num_gpu not in (None, 0),
                f"--num-procs {self.num_procs} is for the CPU; each GPU has one process",
            ),
            (
                self.load_from and self.pretrained,
                "--load-from takes all weights of a checkpoint, --pretrained those that fit: give one",
            ),
            (
                self.teacher is None
                and (self.teacher_share, self.teacher_ensemble) != (_TEACHER_SHARE, _TEACHER_ENSEMBLE),
                "--teacher-share and --teacher-ensemble are for --teacher: name one, or leave them out",
            ),
            (
                self.crop_places > 1 and self.cache != "device",
                "--crop-places looks at decoded frames: it needs --dataset video --cache device",
            ),
            (
                self.crop_drift > 0 and self.cache != "device",
                "--crop-drift moves over decoded frames: it needs --dataset video --cache device",
            ),
            (
                "val_fraction" in self.val_data_options,
                "--val-data-option val_fraction would validate on videos that are trained on; --val-fraction "
                "divides them, for both",
            ),
            (
                self.val_fraction is not None and "val_fraction" in self.data_options,
                "--val-fraction and --data-option val_fraction are the same: give one",
            ),
            (
                self.warmup_steps is not None and self.schedule == "plateau",
                "--warmup-steps belongs to --schedule cosine and trapezoid; plateau starts at the full rate, "
                "as published",
            ),
            (
                self.outer_rate != 1 and self.optimizer != "muon",
                f"--outer-rate {self.outer_rate} is for --optimizer muon; Adam's steps have one rate",
            ),
            (
                self.batch_size % self.processes,
                f"--batch-size {self.batch_size} cannot be shared evenly by {self.processes} processes",
            ),
            (
                self.exp_name is not None and not re.fullmatch(r"[\w.+-]*[\w+-]", self.exp_name),
                f"--exp-name {self.exp_name}: a folder's name is needed, of letters, digits and ._+-",
            ),
        ):
            if wrong:
                raise UsageError(message)

    @property
    def processes(self) -> int:
        """Processes that train together, where this run starts them itself."""
        return self.num_gpu if self.num_gpu else self.num_procs

    @property
    def folder(self) -> Path:
        """Where everything that the run writes goes."""
        return self.checkpoint_dir / (self.exp_name or self.dataset)

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch, for --resume."""
        return self.folder / _CHECKPOINT

    @property
    def best(self) -> Path:
        """The weights of the epoch with the highest validation PSNR."""
        return self.folder / _BEST

    def new_network(self) -> FlavrConfig:
        """The network of a run that starts from no other's weights."""
        n_outputs = self.n_outputs or 1
        # published 2x networks have no encoder bias, 4x and 8x ones do
        bias = self.encoder_bias if self.encoder_bias is not None else n_outputs > 1 or self.init == "blend"
        asked = {name: value for name in _NETWORK if (value := getattr(self, name)) is not None}
        return FlavrConfig(factor=n_outputs + 1, encoder_bias=bias, **asked)

    def accept(self, found: FlavrConfig, path: Path) -> FlavrConfig:
        """The network of a run that goes on from the one in a checkpoint.

        Raises:
            CheckpointError: it is not the network that was asked for.
        """
        if self.n_outputs not in (None, found.n_outputs):
            raise CheckpointError(
                f"{path} holds a {found.factor}x network ({found.n_outputs} new frames); "
                f"--n-outputs {self.n_outputs} was asked for"
            )
        if {self.join, found.join} == {"add", "none"} and not self.resume:
            found = replace(
                found, join=self.join or found.join
            )  # same tensors: weights of others may not say
        for name in (*_NETWORK, "encoder_bias"):
            if getattr(self, name) not in (None, getattr(found, name)):
                raise CheckpointError(
                    f"{path} holds a network with {option(name)[2:]} {getattr(found, name)}; "
                    f"{getattr(self, name)} was asked for: leave {option(name)} out to go on with it"
                )
        return found

    def as_json(self) -> dict[str, Any]:
        """The options as plain values."""
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }


_NETWORK = ("arch", "width", "join", "upmode")  # fields that FlavrConfig has too


_SPELLED = {  # where the command line differs
    "join": "--join-type",
    "data_options": "--data-option",
    "val_data_options": "--val-data-option",
}


def option(field_name: str) -> str:
    """How the command line spells a field."""
    return _SPELLED.get(field_name, f"--{field_name.replace('_', '-')}")


_COUNTS = (
    *("n_outputs", "val_windows", "width", "batch_size", "test_batch_size", "max_epoch", "steps_per_epoch"),
    *("num_procs", "val_freq", "log_iter", "crop_places"),
)
_COUNTS_OR_NONE = ("num_workers", "warmup_steps", "num_gpu", "crop_drift")
_LIMITS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(_COUNTS, (lambda value: value >= 1, "at least 1")),
    **dict.fromkeys(_COUNTS_OR_NONE, (lambda value: value >= 0, "0 or more")),
    **dict.fromkeys(("lr", "clip_grad", "time_limit"), (lambda value: 0 < value < math.inf, "above 0")),
    **dict.fromkeys(("val_fraction", "beta2", "ema"), (lambda value: 0 < value < 1, "between 0 and 1")),
    "seed": (lambda value: 0 <= value < 2**63, "from 0 to 2**63 - 1"),
    "beta1": (lambda value: 0 <= value < 1, "0 or more and below 1"),
    "outer_rate": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "teacher_share": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "teacher_ensemble": (lambda value: value in ENSEMBLES, "1, 2, 4, 8 or 16"),
    "jitter": (lambda value: 0 <= value < 0.5, "0 or more and below 0.5"),
    # the network's strides, and the reflection padding of its last convolution
    "crop": (lambda value: value >= 8 and value % MULTIPLE == 0, f"a multiple of {MULTIPLE}"),
}
