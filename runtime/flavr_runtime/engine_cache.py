"""Where providers keep what they compile: a folder for each model, frame size, provider, build and device.

TensorRT and MIGraphX tell models apart by their structure, and would take another checkpoint's weights for
this one's; engines of another version or device are refused at best. So none of them sees another's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flavr_runtime.providers import Selected

if TYPE_CHECKING:
    from flavr_runtime.model_info import ModelInfo

__all__ = ["FOLDER_VARIABLE", "default_cache_folder", "engine_folder", "engine_key"]

FOLDER_VARIABLE = "FLAVR_CACHE_DIR"


def default_cache_folder() -> Path:
    """The environment variable's, or the platform's own for caches."""
    import platformdirs

    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("flavr", appauthor=False)


def engine_folder(root: Path, key: dict[str, Any]) -> Path:
    """The folder below `root` for a key, made if need be, with the key in it for people to read.

    Raises:
        OSError: it cannot be made.
    """
    text = json.dumps(key, indent=1, sort_keys=True)
    name = f"{Path(key['model']).stem}-{key['provider']}-{key['size']}-{_digest(text)}"
    folder = root / "engines" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").write_text(text + "\n", encoding="utf-8")
    return folder


def engine_key(info: ModelInfo, selected: Selected, size: tuple[int, int] | None) -> dict[str, Any]:
    """Everything that a compiled engine depends on."""
    import onnxruntime as ort

    with info.path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    height, width = size or (0, 0)
    return {
        "model": info.path.name,
        "model_sha256": checksum,
        "size": f"{width}x{height}" if size else "any",
        "precision": info.precision,
        "provider": selected.name,
        "execution_provider": selected.execution_provider,
        "options": selected.options,
        "onnxruntime": f"{getattr(ort, 'package_name', 'onnxruntime')} {ort.__version__}",
        "devices": _devices(ort, selected.execution_provider),
    }


def _devices(ort: Any, execution_provider: str) -> list[str]:
    """The processor, and the devices that ONNX Runtime lists for the provider."""
    found = [f"{platform.machine()} {_processor()}"]
    if hasattr(ort, "get_ep_devices"):  # from 1.23 on
        for each in ort.get_ep_devices():
            if each.ep_name == execution_provider:
                device = each.device
                found.append(f"{device.vendor} {device.vendor_id:04x}:{device.device_id:04x}")
    return found


def _processor() -> str:
    """The model's name; on Linux `platform` does not know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
