"""A checkpoint to export, and an export that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flavr import FlavrConfig
from flavr_export import export

MakeCheckpoint = Callable[[FlavrConfig], Path]


@pytest.fixture
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(FlavrConfig(width=4))


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Exports, and returns the one-line message with which that is refused; the folder is left as it was."""

    def refused(kind: type[Exception], folder: Path, *args: Any, **options: Any) -> str:
        before = sorted(folder.iterdir())
        with pytest.raises(kind) as error:
            export(*args, **options)
        assert type(error.value) is kind
        assert sorted(folder.iterdir()) == before
        assert "\n" not in str(error.value)
        return str(error.value)

    return refused
