"""A checkpoint to export, exported forms of tiny networks, and an export that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flavr import FlavrConfig, load_checkpoint
from flavr_export import ExportSpec, export

MakeCheckpoint = Callable[[FlavrConfig], Path]

_PLAIN, _DEFAULT = FlavrConfig(width=4), ExportSpec()


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


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: MakeCheckpoint
) -> Callable[..., Path]:
    """Exports tiny networks, each form of each once."""

    @cache
    def make(config: FlavrConfig = _PLAIN, spec: ExportSpec = _DEFAULT) -> Path:
        path = tmp_path_factory.mktemp("exported") / "model.onnx"
        checkpoint = replace(load_checkpoint(tiny_checkpoint(config)), config=config)
        export(checkpoint, path, spec)
        return path

    return make
