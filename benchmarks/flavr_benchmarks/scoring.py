"""Which cells make the data set's frames, and what they score: once for all sizes of the same variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flavr_benchmarks.datasets import QualitySet
from flavr_benchmarks.process import CellProcess
from flavr_benchmarks.quality import StoredPictures, compare_to_reference, score
from flavr_benchmarks.schema import Key, Quality, Row
from flavr_benchmarks.workload import Pictures

VariantKey = tuple[str, str, str, str]
_REFERENCE_BACKEND, _REFERENCE_PRECISION = "torch-eager", "fp32"


@dataclass(slots=True)
class Predictions:
    """The frames that every variant made, as long as the run's folder is there."""

    by_variant: dict[VariantKey, Sequence[Pictures]] = field(default_factory=dict)


class Scorer:
    """Keeps what was predicted and scored so far."""

    def __init__(self, quality: QualitySet | None, folder: Path) -> None:
        self.predictions = Predictions()
        self.reference: Quality | None = None
        self.source = folder / "windows"
        self.split: dict[Key, bool] = {}
        self._set = quality
        self._folder = folder
        self._expected: Sequence[Pictures] = []
        self._quantised: dict[Key, bool] = {}
        self._scored: dict[VariantKey, Quality | str] = {}

    def describe(self, key: Key, *, quantised: bool, split: bool) -> None:
        self._quantised[key] = quantised
        self.split[key] = split

    def wants(self, key: Key) -> bool:
        """Whether this variant is still to be scored."""
        return self._set is not None and key.variant not in self._scored

    def score(self, row: Row, process: CellProcess) -> None:
        """Fill in the row's quality, from its process or from another size's. Raises CellError."""
        if self._set is None:
            return
        if self.wants(row.key):
            predictions = self._predicted(process, "-".join(row.key.variant))
            try:
                quality: Quality | str = score(
                    self._set.windows, predictions, quantised=self._quantised[row.key]
                )
            except ValueError as error:
                quality = str(error)
            self._scored[row.key.variant] = quality
            if isinstance(quality, Quality):
                self.predictions.by_variant[row.key.variant] = predictions
            reference = row.key.backend == _REFERENCE_BACKEND and row.key.precision == _REFERENCE_PRECISION
            if reference and isinstance(quality, Quality):
                self.reference, self._expected = quality, predictions
        found = self._scored[row.key.variant]
        if isinstance(found, str):
            row.quality_failure = found
        else:
            row.quality = replace(found)

    def make_reference(self, process: CellProcess) -> None:
        """Score fp32 PyTorch, which is no row of its own here. Raises CellError."""
        if self._set is not None:
            self._expected = self._predicted(process, "reference")
            self.reference = score(self._set.windows, self._expected, quantised=False)

    def compare_all(self, rows: list[Row]) -> None:
        """Fill in the losses against the reference, where there is one."""
        if self.reference is None:
            return
        for row in rows:
            if row.quality is not None:
                predictions = self.predictions.by_variant[row.key.variant]
                compare_to_reference(row.quality, predictions, self.reference, self._expected)

    def _predicted(self, process: CellProcess, name: str) -> Sequence[Pictures]:
        target = self._folder / f"predicted-{name}"
        target.mkdir(exist_ok=True)  # another size of it may have failed half-way
        process.predict(self.source, target)
        return StoredPictures(target)
