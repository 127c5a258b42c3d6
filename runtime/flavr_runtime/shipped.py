"""The network that ships with flavr: a file that holds its weights, and further entrances to it.

`python -m flavr_export.twins` makes the others from the first, DEFAULT_MODEL, which any provider runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

__all__ = ["DEFAULT_MODEL", "SHIPPED", "shipped_file", "shipped_model"]

_FOLDER = Path(__file__).with_name("models")

DEFAULT_MODEL = _FOLDER / "flavr_lite_2x.onnx"

SHIPPED: Mapping[tuple[str, bool], Path] = MappingProxyType(
    {
        ("conv2d", False): DEFAULT_MODEL,
        ("conv2d", True): _FOLDER / "flavr_lite_2x_float.onnx",
        ("winograd", False): _FOLDER / "flavr_lite_2x_winograd.onnx",
        ("winograd", True): _FOLDER / "flavr_lite_2x_winograd_float.onnx",
    }
)
"""By graph form, and whether it is for pictures of more than 8 bits: its ends are float then, not uint8."""


def shipped_model(graph: str, *, deep: bool) -> Path:
    """The entrance in a form that a provider runs fastest, as its row in the table says."""
    return SHIPPED[graph, deep]


def shipped_file(name: str) -> Path | None:
    """The file of that name that ships, if there is one: people know it from what flavr-run prints."""
    return next((path for path in SHIPPED.values() if path.name == name), None)
