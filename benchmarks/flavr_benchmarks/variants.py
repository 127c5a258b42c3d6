"""The network's exported forms: files that are there, and a checkpoint's, written by flavr-export itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flavr.config import FlavrConfig
from flavr_benchmarks.cells import Variant
from flavr_benchmarks.errors import UsageError
from flavr_benchmarks.schema import Failure
from flavr_benchmarks.worker import looks_like_no_memory
from flavr_runtime.model_info import ModelInfo, read_model_info
from flavr_runtime.shipped import SHIPPED

_TIMEOUT = 1800


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """One network, whatever its form."""

    name: str  # in the report
    arch: str
    width: int
    sha256: str  # of its checkpoint
    join: str = "concat"
    upmode: str = "transpose"
    batchnorm: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    models: tuple[ModelInfo, ...]
    checkpoint: Path | None
    factor: int
    networks: tuple[NetworkFacts, ...]  # the checkpoint's, if there is one, then those of the models


def facts_of(name: str, config: FlavrConfig, sha256: str) -> NetworkFacts:
    """Those of a network whose checkpoint was read."""
    return NetworkFacts(name, config.arch, config.width, sha256, config.join, config.upmode, config.batchnorm)


def examine_subject(models: Sequence[Path], checkpoint: Path | None) -> Subject:
    """Read what was given; the network that ships with flavr, in all its forms, where nothing was.

    Raises:
        FlavrRuntimeError, FlavrError: a file that cannot be used.
        UsageError: files of different factors.
    """
    shipped = [path for (_, deep), path in SHIPPED.items() if not deep]
    paths = list(models) if models or checkpoint is not None else shipped
    infos = tuple(read_model_info(path) for path in paths)
    factors = {str(info.path): info.factor for info in infos}
    networks = [
        NetworkFacts(
            name, info.arch, info.width, info.checkpoint_sha256, info.join, info.upmode, info.batchnorm
        )
        for name, info in zip(_names(infos, checkpoint), infos, strict=True)
    ]
    if checkpoint is not None:
        from flavr.checkpoints import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        factors[str(checkpoint)] = loaded.config.factor
        networks.insert(0, facts_of(checkpoint.stem, loaded.config, loaded.sha256))
    if len(set(factors.values())) > 1:
        listed = ", ".join(f"{path} makes {factor}x" for path, factor in factors.items())
        raise UsageError(f"networks of different factors cannot be compared: {listed}")
    return Subject(infos, checkpoint, next(iter(factors.values())), tuple(dict.fromkeys(networks)))


def onnx_variants(
    subject: Subject,
    graphs: Sequence[str],
    precisions: Sequence[str],
    folder: Path,
    calibrate: Path | None,
    say: Callable[[str], None],
) -> list[Variant]:
    """Every file to measure: those given, and the checkpoint's in every form asked for."""
    found = [
        Variant(name, info.graph, info.precision, info.path)
        for name, info in zip(_names(subject.models, subject.checkpoint), subject.models, strict=True)
    ]
    if subject.checkpoint is None:
        return found
    for graph in graphs:
        for precision in precisions:
            say(f"exporting {subject.checkpoint.name} as {graph} {precision}")
            found.append(_exported(subject.checkpoint, graph, precision, folder, calibrate))
    return found


def _names(models: Sequence[ModelInfo], checkpoint: Path | None) -> list[str]:
    """What the files are called in the report: after those that hold their weights, numbered if alike."""
    owners: dict[str, Path] = {} if checkpoint is None else {checkpoint.stem: checkpoint}
    rows: set[tuple[str, str, str]] = set()
    names = []
    for info in models:
        weights, own = info.weights or info.path, info.path.stem
        for name in (weights.stem, own, *(f"{own} ({number})" for number in range(2, len(models) + 2))):
            row = name, info.graph, info.precision
            if owners.setdefault(name, weights) == weights and row not in rows:
                rows.add(row)
                names.append(name)
                break
    return names


def _exported(checkpoint: Path, graph: str, precision: str, folder: Path, calibrate: Path | None) -> Variant:
    """Through the command, in a process of its own: what it refuses is a row with its reason."""
    output = folder / f"{checkpoint.stem}-{graph}-{precision}.onnx"
    command = [sys.executable, "-m", "flavr_export.cli", "--ckpt", str(checkpoint), "-o", str(output)]
    command += ["--graph", graph, "--precision", precision]
    if precision == "int8" and calibrate is not None:
        command += ["--calibrate", str(calibrate)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        failure = Failure("timeout", f"flavr-export took more than {_TIMEOUT} s")
        return Variant(checkpoint.stem, graph, precision, None, failure)
    if done.returncode:
        return Variant(checkpoint.stem, graph, precision, None, _why(done.returncode, done.stderr))
    return Variant(checkpoint.stem, graph, precision, output)


def _why(code: int, errors: str) -> Failure:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    reason = lines[-1] if lines else f"exit code {code}"
    for prefix in ("error: ", "Error: "):
        reason = reason.removeprefix(prefix)
    if code < 0 or looks_like_no_memory(reason):
        return Failure("out of memory" if code in (-9, 1) else "crash", f"flavr-export: {reason}")
    return Failure("unsupported", f"flavr-export: {reason}")
