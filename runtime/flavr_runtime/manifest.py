"""What a run did, as JSON beside its result: enough to make the same result again, or to see why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flavr_runtime._destination import is_stdout, is_stream
from flavr_runtime._identity import file_hash, versions
from flavr_runtime._option_groups import all_settings
from flavr_runtime.errors import OutputError
from flavr_runtime.workfolder import write_durably

if TYPE_CHECKING:
    from flavr_runtime._job import Job
    from flavr_runtime._run_options import RunOptions
    from flavr_runtime.damage import Gap
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.pipeline import Progress

__all__ = ["manifest_of", "manifest_path", "write_manifest"]

FORMAT = 1


def manifest_path(output: str, *, overwrite: bool) -> Path:
    """`out.mp4.json` for out.mp4, `frames.json` for a folder. Raises OutputError where none may be."""
    path = Path(output)
    if is_stream(output):
        name = "standard output" if is_stdout(output) else output
        raise OutputError(f"--manifest: {name} has no place for a file beside it; name one with -o")
    place = Path(f"{path.resolve() if path.is_dir() else path}.json")
    if place.exists() and not overwrite:
        raise OutputError(f"{place}: the file exists; use --overwrite, or leave --manifest out")
    return place


def manifest_of(
    job: Job, options: RunOptions, interpolator: Interpolator, result: Progress
) -> dict[str, Any]:
    """Rates and times are exact, as fractions of seconds: "24000/1001", "5/2"."""
    info, model = job.source.info, interpolator.model
    return {
        "format": FORMAT,
        "input": {
            "path": str(info.path),
            "size": [info.width, info.height],
            "rate": str(info.rate),
            "constant_rate": info.constant_rate,
            "description": info.description,
        },
        "output": {"path": job.output, "rate": str(job.timing.rate), "stretch": str(job.timing.stretch)},
        "model": asdict(model)
        | {
            "path": str(model.path),
            "sha256": file_hash(model.path),
            "weights": str(model.weights or model.path),
            "weights_sha256": file_hash(model.weights or model.path),
        },
        "provider": {
            "name": interpolator.provider,
            "execution_provider": interpolator.execution_provider,
            "nodes": interpolator.nodes,
        },
        "precision": model.precision,
        "versions": versions() | interpolator.identity,
        "options": {name: _plain(value) for name, value in all_settings(options)},
        "frames": {
            "in": result.read,
            "out": result.written,
            "from_source": result.passed,
            "made": result.synthesised,
            "repeated": result.repeated,
            "held_smoothed": result.held,
            "kept_from_before": result.kept,
        },
        "cuts": [str(time) for time in result.cut_times],
        "gaps": [_gap(gap) for gap in job.source.gaps],
        "tiles": str(interpolator.tiling(info.height, info.width)),
        "warnings": [
            *job.notices,
            *interpolator.notices,
            *job.late_notices,
            *interpolator.late_notices,
            *job.damage,
        ],
        "seconds": round(result.seconds, 3),
    }


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises OutputError."""
    text = f"{json.dumps(manifest, indent=1, ensure_ascii=False)}\n"
    try:
        # In a name that is no text, Python writes each odd byte as half a character, which UTF-8 does not
        # have and JSON can spell: \udce9.
        write_durably(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise OutputError(f"{path}: the manifest cannot be written ({error.strerror or error})") from error


def _gap(gap: Gap) -> dict[str, Any]:
    clean = None if gap.clean_from is None else str(gap.clean_from)
    return asdict(gap) | {"start": str(gap.start), "end": str(gap.end), "clean_from": clean}


def _plain(value: object) -> object:
    if isinstance(value, Fraction | Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
