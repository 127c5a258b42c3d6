"""Pictures of a validation: per window one row of both middle frames, prediction, truth and error."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from flavr.config import WINDOW
from flavr.validate import WindowBatch, evenly

_ROWS = 4
_PANEL_WIDTH = 448  # wider panels are reduced; five of them stand side by side
_ERROR_GAIN = 4.0  # an error of a quarter of the range is full white
_GAP = 2  # white pixels between panels


class StripCollector:
    """Collects a few windows, evenly spread over a validation of `windows` windows. A `validate.Watch`."""

    def __init__(self, windows: int, predictor: str) -> None:
        self._wanted = set(evenly(windows, _ROWS))
        self._predictor = predictor
        self._seen = 0
        self._rows: list[Tensor] = []

    def __call__(self, batch: WindowBatch, predictions: Mapping[str, Tensor]) -> None:
        if batch.targets.shape[1]:
            for i in range(len(batch.names)):
                if self._seen + i in self._wanted:
                    self._rows.append(
                        _row(batch.inputs[i], predictions[self._predictor][i], batch.targets[i])
                    )
        self._seen += len(batch.names)

    def picture(self) -> Tensor | None:
        """uint8 [3, H, W], or None where no window had a ground truth."""
        if not self._rows:
            return None
        width = max(row.shape[2] for row in self._rows)
        rows = [F.pad(row, (0, width - row.shape[2], 0, _GAP), value=1) for row in self._rows]
        return (torch.cat(rows, dim=1) * 255).round().to(torch.uint8)


def _row(inputs: Tensor, prediction: Tensor, targets: Tensor) -> Tensor:
    """float [3, h, w]: of several new frames, the one nearest to the middle."""
    middle = len(targets) // 2
    before, after = inputs[WINDOW // 2 - 1].float() / 255, inputs[WINDOW // 2].float() / 255
    truth = targets[middle].float() / 255
    predicted = prediction[middle].float().cpu().clamp(0, 1)
    error = ((predicted - truth).abs() * _ERROR_GAIN).clamp(0, 1)
    panels = [
        F.pad(_reduced(panel), (0, _GAP), value=1) for panel in (before, after, predicted, truth, error)
    ]
    return torch.cat(panels, dim=2)


def _reduced(panel: Tensor) -> Tensor:
    height, width = panel.shape[1:]
    if width <= _PANEL_WIDTH:
        return panel
    size = (max(1, round(height * _PANEL_WIDTH / width)), _PANEL_WIDTH)
    return F.interpolate(panel[None], size=size, mode="area")[0]
