"""Which hardware can run a model here: the execution providers as data, and a test that tells the truth.

    selected = select("auto")                       # or a name the user gave; raises, never falls back
    selected = select("cuda", {"device_id": "1"})
    session = onnxruntime.InferenceSession(path, providers=session_providers(selected))

ONNX Runtime lists a provider when its build contains it, even where the vendor's libraries are missing, and
a session then ends on the CPU without an error. So the list only rules providers out: what is in it has to
compute a small convolution with the CPU forbidden before this module says that it works.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flavr_runtime._ort_output import captured, one_line_reason
from flavr_runtime._provider_options import EngineOptions, overridden
from flavr_runtime._provider_table import TABLE, Engine, PipLine, Provider
from flavr_runtime.errors import ProviderError, UsageError

__all__ = [
    "PROVIDERS",
    "PROVIDER_CHOICES",
    "Availability",
    "Engine",
    "PipLine",
    "Provider",
    "Selected",
    "auto_choice",
    "check_options",
    "installed_wheels",
    "probe",
    "select",
    "session_providers",
]

PROVIDERS: Mapping[str, Provider] = MappingProxyType({provider.name: provider for provider in TABLE})
"""Every provider by the name users give it, in the order in which `auto` prefers them."""

PROVIDER_CHOICES: tuple[str, ...] = ("auto", *PROVIDERS)
"""What `--provider` accepts."""

_REGISTERED: set[str] = set()
"""Providers that came as plugins: listed from then on as if built in, whose options have other names."""

_SYSTEM_NAMES = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}


@dataclass(frozen=True, slots=True)
class Availability:
    """What a provider did when it was tried on this machine."""

    provider: Provider
    ok: bool  # it computed the test graph, on its own hardware, with the right numbers
    engine: Engine | None  # what was tried; None where the installed ONNX Runtime has nothing to try
    version: str  # "onnxruntime-openvino 1.24.1"; "" without a usable ONNX Runtime
    reason: str = ""  # why it does not work, on one line; "" when it does
    cure: str = ""  # the command that brings it; "" when it works or cannot exist on this system
    other_cures: tuple[PipLine, ...] = ()  # the commands for its other builds

    @property
    def execution_provider(self) -> str | None:
        """ONNX Runtime's name of what was tried."""
        return self.engine.name if self.engine else None


@dataclass(frozen=True, slots=True)
class Selected:
    """A provider that works here, and what a session has to be told."""

    name: str  # a key of PROVIDERS, never "auto"
    execution_provider: str
    options: dict[str, str] = field(default_factory=dict)
    cache_options: dict[str, str] = field(default_factory=dict)  # "{folder}" stands for the cache folder
    engine: Engine | None = None  # how a session is best made for it; None: in no particular way

    @property
    def graph(self) -> str:
        """The form of a network that it runs fastest."""
        return PROVIDERS[self.name].graph

    @property
    def identity(self) -> dict[str, str]:
        """What the numbers that it computes depend on, by names for people."""
        options = ", ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return {"the provider": self.execution_provider, "its options": options}


def probe(name: str, options: Mapping[str, object] | None = None) -> Availability:
    """Find out by running it whether a provider works on this machine, with the options that a user gave.

    Takes milliseconds where it is absent, up to some seconds where it works and compiles. A provider that
    needs libraries loaded or a plugin registered keeps them for the life of the process. File descriptors 1
    and 2 are redirected meanwhile, see captured(). Raises UsageError for a name that is not in PROVIDERS, and
    for options that no engine of the provider has.
    """
    provider = _row(name)
    if options:
        check_options(name, options)
    try:
        ort = _import_onnxruntime()
    except ImportError as error:
        return _unavailable(provider, None, "", str(error))
    version = f"{getattr(ort, 'package_name', 'onnxruntime')} {ort.__version__}"

    failures: list[tuple[Engine, str]] = []
    for engine in _engines_to_try(ort, provider):
        try:
            failure = _failure_of(ort, engine, overridden(engine.options, options or {}, name))
        except UsageError as error:  # an option of the provider's other engines
            failure = str(error)
        if failure is None:
            return Availability(provider, True, engine, version)
        failures.append((engine, failure))
    if failures:  # the preferred one's failure is the one worth curing
        return _unavailable(provider, failures[0][0], version, failures[0][1])
    wanted = " or ".join(dict.fromkeys(engine.name for engine in provider.engines))
    return _unavailable(provider, None, version, f"{version} is built without {wanted}")


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Refuse, before anything is tried, what no engine of a provider can be told.

    Raises:
        UsageError: naming the option, and those that there are.
    """
    if not options:
        return
    if name == "auto":
        raise UsageError(
            f"option {next(iter(options))!r} belongs to one provider: name that one instead of auto "
            f"({', '.join(PROVIDERS)})"
        )
    refusals = []
    for engine in _row(name).engines:
        try:
            overridden(engine.options, options, name)
        except UsageError as refusal:
            refusals.append(refusal)
        else:
            return
    raise refusals[0]


def select(name: str, options: Mapping[str, object] | None = None) -> Selected:
    """The provider to run on: the first that works for "auto", else the one that was named.

    `options` are its own, by ONNX Runtime's names, and go before this project's defaults.

    Raises UsageError for an unknown name or option, and ProviderError where the named provider, or every one,
    fails.
    """
    given = options or {}
    check_options(name, given)
    names = [row.name for row in PROVIDERS.values() if row.auto] if name == "auto" else [name]
    for candidate in names:
        tried = probe(candidate, given)
        if tried.ok and tried.engine is not None:
            engine = tried.engine
            chosen = overridden(engine.options, given, candidate).for_session()
            return Selected(candidate, engine.name, chosen, dict(engine.cache), engine)
    # `auto` ends with the CPU, which every build contains: its failure is that of ONNX Runtime itself.
    if given:
        told = ", ".join(f"{key}={value}" for key, value in given.items())
        raise ProviderError(
            f"provider {name} does not work here with {told}: {tried.reason}; flavr-providers tries it "
            "without"
        )
    subject = "no provider works" if name == "auto" else f"provider {name} does not work"
    raise ProviderError(f"{subject} here: {_what_to_do(tried)}")


def auto_choice(tried: Mapping[str, Availability]) -> str | None:
    """Which provider `auto` takes, given what every provider did; None if none works."""
    return next((name for name, row in PROVIDERS.items() if row.auto and tried[name].ok), None)


def session_providers(
    selected: Selected, cache_folder: Path | None = None
) -> list[tuple[str, dict[str, str]]]:
    """The `providers` argument of onnxruntime.InferenceSession.

    The CPU is in it only where it is the choice. cache_folder keeps what the provider compiles, which saves
    minutes at the next start; it must belong to this one model file, since TensorRT and MIGraphX tell
    models apart by their structure and would take another checkpoint's weights for this one's.
    """
    options = dict(selected.options)
    if cache_folder is not None:
        options |= {key: value.format(folder=cache_folder) for key, value in selected.cache_options.items()}
    backups = PROVIDERS[selected.name].backups
    device = {name: value for name, value in selected.options.items() if name == "device_id"}
    return [
        (selected.execution_provider, options),
        *((engine.name, engine.options.for_session() | device) for engine in backups),
    ]


def installed_wheels() -> dict[str, str]:
    """The distributions here that contain ONNX Runtime, with their versions.

    More than one is a fault: they write the same files, and the one installed last wins in part.
    """
    found: dict[str, str] = {}
    for wheel in dict.fromkeys(wheel for provider in TABLE for wheel in provider.wheels):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[wheel] = importlib.metadata.version(wheel)
    return found


def _row(name: str) -> Provider:
    try:
        return PROVIDERS[name]
    except KeyError:
        raise UsageError(f"unknown provider {name!r}: choose one of {', '.join(PROVIDER_CHOICES)}") from None


def _import_onnxruntime() -> Any:
    """The module, or ImportError with a message for the user."""
    try:
        with captured(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise ImportError("ONNX Runtime is not installed") from error
        raise ImportError(f"ONNX Runtime cannot be imported: {one_line_reason(str(error), '')}") from error
    except Exception as error:  # a native library that does not load here raises whatever it likes
        raise ImportError(f"ONNX Runtime cannot be imported: {one_line_reason(str(error), '')}") from error
    if not hasattr(module, "InferenceSession"):
        # pip removes shared files with the first of two builds, and an empty folder imports all the same
        raise ImportError("ONNX Runtime is incomplete, as after uninstalling one of two builds")
    return module


def _engines_to_try(ort: Any, provider: Provider) -> list[Engine]:
    built_in = set(ort.get_available_providers()) - _REGISTERED
    return [
        engine
        for engine in provider.engines
        if (importlib.util.find_spec(engine.plugin) if engine.plugin else engine.name in built_in)
    ]


def _failure_of(ort: Any, engine: Engine, chosen: EngineOptions) -> str | None:
    """Why the engine, so told, cannot compute the test graph, on one line, or None if it can."""
    output: list[str] = []
    try:
        with captured() as output, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _prepare(ort, engine)
            _run_test_graph(ort, engine, chosen)
    except Exception as error:  # drivers and plugins raise every type there is, and each one means "no"
        return one_line_reason(str(error) or type(error).__name__, "".join(output))
    return None


def _prepare(ort: Any, engine: Engine) -> None:
    if engine.nvidia_libraries and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds CUDA and cuDNN where pip put them, which the dynamic linker does not
    for module in engine.preload:
        with contextlib.suppress(ImportError):  # its libraries may as well be installed system-wide
            importlib.import_module(module)
    if engine.plugin and engine.name not in ort.get_available_providers():
        plugin = importlib.import_module(engine.plugin)
        ort.register_execution_provider_library(engine.name, plugin.get_library_path())
        _REGISTERED.add(engine.name)
        if engine.name not in ort.get_available_providers():
            raise RuntimeError(f"the plugin {engine.plugin} finds no device that it can run on")


def _run_test_graph(ort: Any, engine: Engine, chosen: EngineOptions) -> None:
    """Raise where the engine does not compute the test graph itself, and correctly."""
    import numpy as np

    from flavr_runtime import _probe_model

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if engine.name != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(
        _probe_model.MODEL,
        options,
        providers=[(engine.name, chosen.for_session())],
        enable_fallback=0,  # else a failure is retried on the CPU, and the second error hides the first
    )
    used = session.get_providers()[0]
    if used != engine.name:
        raise RuntimeError(f"its session ends on {used}")
    (result,) = session.run(None, {"x": np.array(_probe_model.INPUT, np.float32)})
    if not np.allclose(result, _probe_model.EXPECTED, atol=0.5):
        raise RuntimeError(
            f"it computes wrong numbers: {np.ravel(result)} for {np.ravel(_probe_model.EXPECTED)}"
        )


def _unavailable(provider: Provider, engine: Engine | None, version: str, reason: str) -> Availability:
    if engine is None and sys.platform not in provider.systems:
        systems = " and ".join(_SYSTEM_NAMES[system] for system in provider.systems)
        return Availability(provider, False, None, version, f"it exists only for {systems}")
    installed = installed_wheels()
    uninstall = f"pip uninstall -y {' '.join(installed)} && " if installed else ""
    # Two builds in one environment break each other, so any other has to go first. A second build of the
    # same name, or a damaged one, has to go as well: pip would call the requirement satisfied.
    foreign = set(installed) - set(provider.wheels)
    cure = (uninstall if foreign or not version else "") + provider.pip[0].command
    others = tuple(PipLine(line.origin, uninstall + line.command) for line in provider.pip[1:])
    return Availability(provider, False, engine, version, reason, cure, others)


def _what_to_do(failed: Availability) -> str:
    """The reason and the cure of a failure, as the rest of an error message."""
    text = failed.reason
    if not failed.cure:
        return f"{text}; flavr-providers lists what works here"
    if failed.engine is not None and failed.provider.needs:
        # The wheel is here already: what is missing may well be something that pip does not bring.
        text += f"; it needs {failed.provider.needs}, and: {failed.cure}"
    else:
        text += f"; install it with: {failed.cure}"
    if failed.other_cures:
        others = " and ".join(line.origin for line in failed.other_cures)
        text += f" ({failed.provider.pip[0].origin}; flavr-providers prints the lines for {others})"
    return text
