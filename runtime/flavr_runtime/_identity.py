"""All that the result of a run depends on, as text: what has to be the same for it to be continued."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from pathlib import Path

from flavr_runtime._option_groups import settings_of
from flavr_runtime._run_options import RunOptions
from flavr_runtime._sequences import image_files, is_sequence

__all__ = ["file_hash", "run_identity", "versions"]

_SAMPLE = 1 << 20  # bytes, taken at the beginning, in the middle and at the end of an input
# What decodes, finds cuts, computes and encodes: another version may do it a little differently.
_PACKAGES = ("flavr", "av", "numpy", "opencv-python-headless", "scenedetect-headless", "scenedetect")


def run_identity(input_path: Path, options: RunOptions) -> dict[str, str]:
    """Facts by name. The provider and the model are not among them: they are known only later."""
    cuts = Path(options.scenes.cuts)
    listed = options.scenes.cuts not in ("auto", "off") and cuts.is_file()
    return {
        "the input": _input_identity(input_path),
        **({"the list of cuts": file_hash(cuts)} if listed else {}),
        **{name: str(value) for name, value in settings_of(options)},
        **versions(),
    }


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _input_identity(path: Path) -> str:
    """Size, time of change, and a hash: of samples of a file, of the names of images."""
    digest = hashlib.sha256()
    images = is_sequence(path)
    files = image_files(path) if images else [path]
    size = changed = 0
    for each in files:
        status = each.stat()
        size, changed = size + status.st_size, max(changed, status.st_mtime_ns)
        if images:
            facts = f"{each.name} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(facts.encode(errors="surrogateescape"))  # a name may be bytes that are no text
    if not images:
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - _SAMPLE)):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    return f"{size} bytes of {changed / 1e9:.3f} ({digest.hexdigest()[:16]})"


def versions() -> dict[str, str]:
    """Of the packages that shape a result, those that are installed."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
