"""What the fixture `new_config` is, for the tests that take it."""

from __future__ import annotations

from typing import Any, Protocol

from flavr.training.config import TrainingConfig


class NewConfig(Protocol):
    def __call__(self, name: str, **options: Any) -> TrainingConfig: ...
