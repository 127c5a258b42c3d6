"""An ONNX Runtime whose providers do what a test says."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flavr_runtime import _probe_model


class FakeOrt(types.ModuleType):
    """An `onnxruntime` whose providers do what a test says.

    listed: what get_available_providers() claims. behaviour: per provider, a function that is called when a
    session is made and returns the provider that the session ends on; by default it works.
    """

    package_name = "onnxruntime-fake"
    __version__ = "9.9.9"

    def __init__(self, *listed: str, behaviour: Mapping[str, Callable[[], str]] | None = None) -> None:
        super().__init__("onnxruntime")
        self.listed = [*listed, "CPUExecutionProvider"]
        self.behaviour = dict(behaviour or {})
        self.made: list[tuple[list[Any], dict[str, str]]] = []  # providers and configuration of each session
        self.registered: list[tuple[str, str]] = []
        self.result: Any = _probe_model.EXPECTED
        self.run_error: Exception | None = None
        self.SessionOptions = FakeOptions
        self.InferenceSession = self._session

    def get_available_providers(self) -> list[str]:
        return list(self.listed)

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))
        if "without_device" not in path:
            self.listed.append(name)

    def _session(
        self, model: bytes, options: FakeOptions, *, providers: list[Any], enable_fallback: int
    ) -> Any:
        assert model == _probe_model.MODEL
        assert enable_fallback == 0
        self.made.append((providers, options.config))
        name = providers[0][0]
        used = self.behaviour[name]() if name in self.behaviour else name

        def run(_names: None, inputs: dict[str, Any]) -> list[Any]:
            assert np.array_equal(inputs["x"], _probe_model.INPUT)
            if self.run_error:
                raise self.run_error
            return [np.array(self.result)]

        return types.SimpleNamespace(get_providers=lambda: [used, "CPUExecutionProvider"], run=run)


class FakeOptions:
    def __init__(self) -> None:
        self.config: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.config[key] = value


Install = Callable[..., FakeOrt]
