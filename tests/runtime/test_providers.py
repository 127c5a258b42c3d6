"""A provider is what computed something here, not what ONNX Runtime lists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flavr_runtime import _probe_model, providers
from flavr_runtime._provider_options import overridden
from flavr_runtime.errors import ProviderError, UsageError
from flavr_runtime.providers import PROVIDER_CHOICES, PROVIDERS, probe, select, session_providers

CUDA_LOG = (
    "\x1b[1;31m2026-01-02 03:04:05.6 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/src/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() "
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /site/capi/libonnxruntime_providers_cuda.so "
    "with error: libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m"
)
NOTHING_PLACED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU "
    "EP, but fallback to CPU EP has been explicitly disabled by the user."
)


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


@pytest.fixture
def fake_ort(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a FakeOrt in place of onnxruntime, with its wheel as the only one installed, on Linux."""

    def install(*listed: str, **kwargs: Any) -> FakeOrt:
        fake = FakeOrt(*listed, **kwargs)
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        return fake

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(providers, "_REGISTERED", set())
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_migraphx", None)  # in case the machine has AMD's plugin
    monkeypatch.setattr(providers, "installed_wheels", lambda: {"onnxruntime": "9.9.9"})
    return install


def raising(error: Exception, printed: str = "") -> Callable[[], str]:
    def behaviour() -> str:
        os.write(2, printed.encode())  # as the native library does, past sys.stderr
        sys.stdout.write("EP Error: retrying on the CPU")
        raise error

    return behaviour


# --- the real ONNX Runtime


def test_the_cpu_really_computes_here() -> None:
    tried = probe("cpu")
    assert tried.ok
    assert tried.execution_provider == "CPUExecutionProvider"
    assert re.fullmatch(r"onnxruntime\S* \d+\.\d+\S*", tried.version)
    assert tried.reason == tried.cure == ""


def test_every_provider_can_be_tried_on_any_machine_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    for name in PROVIDERS:
        tried = probe(name)
        assert tried.ok == (tried.reason == "")
        assert "\n" not in tried.reason
    assert capfd.readouterr() == ("", "")


def test_what_select_returns_makes_a_session() -> None:
    import onnxruntime

    chosen = select("cpu")
    session = onnxruntime.InferenceSession(_probe_model.MODEL, providers=session_providers(chosen))
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_importing_the_module_loads_neither_onnxruntime_nor_numpy() -> None:
    code = "import sys, flavr_runtime.providers as p; print(p.PROVIDER_CHOICES[0], *sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("auto ")
    assert not {"onnxruntime", "numpy", "onnx", "torch"} & set(run.stdout.split())


# --- providers that are listed and do not work


def test_a_listed_provider_whose_session_ends_on_the_cpu_is_refused(fake_ort: Install) -> None:
    fake_ort("CUDAExecutionProvider", behaviour={"CUDAExecutionProvider": lambda: "CPUExecutionProvider"})
    tried = probe("cuda")
    assert not tried.ok
    assert tried.execution_provider == "CUDAExecutionProvider"
    assert tried.reason == "its session ends on CPUExecutionProvider"
    with pytest.raises(ProviderError, match=r"^provider cuda does not work here: its session ends on CPU"):
        select("cuda")


def test_the_library_that_is_missing_is_named_and_nothing_reaches_the_terminal(
    fake_ort: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_ort(
        "CUDAExecutionProvider",
        behaviour={"CUDAExecutionProvider": raising(RuntimeError(NOTHING_PLACED), CUDA_LOG)},
    )
    with pytest.raises(ProviderError) as caught:
        select("cuda")
    assert str(caught.value) == (
        "provider cuda does not work here: libonnxruntime_providers_cuda.so cannot be loaded: "
        "libcublasLt.so.13: cannot open shared object file: No such file or directory; it needs an NVIDIA "
        "GPU with driver 580 or newer (525 for onnxruntime-gpu 1.26 or older), and: "
        "pip uninstall -y onnxruntime && pip install 'flavr[cuda]'"
    )
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_fails_only_when_it_runs_is_refused(fake_ort: Install) -> None:
    fake_ort("DmlExecutionProvider").run_error = RuntimeError("device removed")
    assert probe("directml").reason == "device removed"


def test_a_provider_that_computes_wrong_numbers_is_refused(fake_ort: Install) -> None:
    fake_ort("OpenVINOExecutionProvider").result = [[[[27.0, 37.0], [57.0, 0.0]]]]
    assert probe("openvino").reason == "it computes wrong numbers: [27. 37. 57. 0.] for [27. 37. 57. 67.]"


def test_the_cpu_is_forbidden_while_another_provider_is_tried(fake_ort: Install) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    assert probe("cuda").ok
    assert probe("cpu").ok
    (cuda, cuda_config), (cpu, cpu_config) = fake.made
    assert [name for name, _ in cuda] == ["CUDAExecutionProvider"]
    assert cuda[0][1]["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert cuda_config == {"session.disable_cpu_ep_fallback": "1"}
    assert cpu == [("CPUExecutionProvider", {})]
    assert cpu_config == {}


def test_cuda_from_pip_is_loaded_before_cuda_is_tried(fake_ort: Install) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    order: list[str] = []
    fake.preload_dlls = lambda: order.append("preload")  # type: ignore[attr-defined]
    fake.behaviour["CUDAExecutionProvider"] = lambda: order.append("session") or "CUDAExecutionProvider"  # type: ignore[func-returns-value]
    assert probe("cuda").ok
    assert order == ["preload", "session"]


# --- providers that are not there


def test_a_provider_outside_this_build_names_the_pip_line_that_brings_it(fake_ort: Install) -> None:
    fake_ort()
    with pytest.raises(ProviderError) as caught:
        select("openvino")
    assert str(caught.value) == (
        "provider openvino does not work here: onnxruntime-fake 9.9.9 is built without "
        "OpenVINOExecutionProvider; install it with: "
        "pip uninstall -y onnxruntime && pip install 'flavr[openvino]'"
    )


def test_a_missing_rocm_names_the_community_build_and_amds_own(fake_ort: Install) -> None:
    fake_ort()
    with pytest.raises(ProviderError) as caught:
        select("rocm")
    message = str(caught.value)
    assert "is built without MIGraphXExecutionProvider or ROCMExecutionProvider" in message
    assert (
        "pip install 'flavr[rocm]' (a community build; flavr-providers prints the lines for AMD's" in message
    )
    assert "\n" not in message


def test_a_provider_of_another_system_offers_no_pip_line_that_cannot_work(fake_ort: Install) -> None:
    fake_ort()
    assert probe("directml").cure == probe("coreml").cure == ""
    with pytest.raises(
        ProviderError, match=r"it exists only for Windows; flavr-providers lists what works here$"
    ):
        select("directml")


def test_without_onnxruntime_the_cpu_line_is_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(providers, "installed_wheels", dict)
    with pytest.raises(ProviderError) as caught:
        select("auto")
    assert str(caught.value) == (
        "no provider works here: ONNX Runtime is not installed; install it with: pip install 'flavr[cpu]'"
    )
    assert probe("cpu").version == ""


def test_the_remains_of_an_uninstalled_build_are_recognised(fake_ort: Install) -> None:
    del fake_ort().InferenceSession  # the folder that pip leaves imports as an empty package
    tried = probe("cpu")
    assert tried.reason == "ONNX Runtime is incomplete, as after uninstalling one of two builds"
    assert tried.cure == "pip uninstall -y onnxruntime && pip install 'flavr[cpu]'"


def test_an_onnxruntime_that_cannot_be_imported_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "raise OSError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert probe("cpu").reason == (
        "ONNX Runtime cannot be imported: libcudart.so.12: cannot open shared object file"
    )


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        select("cudda")
    assert str(caught.value) == (
        "unknown provider 'cudda': choose one of "
        "auto, cuda, tensorrt, rocm, migraphx, directml, coreml, openvino, cpu"
    )


# --- AMD


def test_rocm_is_migraphx_on_a_new_build(fake_ort: Install) -> None:
    fake_ort("MIGraphXExecutionProvider")
    assert select("rocm").execution_provider == "MIGraphXExecutionProvider"
    assert select("migraphx").execution_provider == "MIGraphXExecutionProvider"


def test_rocm_is_the_rocm_provider_on_an_old_build(fake_ort: Install) -> None:
    fake_ort("ROCMExecutionProvider")
    assert select("rocm").execution_provider == "ROCMExecutionProvider"
    with pytest.raises(ProviderError, match="is built without MIGraphXExecutionProvider;"):
        select("migraphx")


def test_rocm_uses_its_second_provider_where_the_first_fails(fake_ort: Install) -> None:
    broken = {"MIGraphXExecutionProvider": raising(RuntimeError("no MIGraphX"))}
    fake_ort("MIGraphXExecutionProvider", "ROCMExecutionProvider", behaviour=broken)
    assert select("rocm").execution_provider == "ROCMExecutionProvider"
    assert probe("migraphx").reason == "no MIGraphX"


@pytest.fixture
def amd_plugin(
    fake_ort: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], FakeOrt]:
    """Install AMD's plugin package, which has to be registered, with the given library path."""

    def install(library: str) -> FakeOrt:
        module = tmp_path / "onnxruntime_ep_migraphx.py"
        module.write_text(f"def get_library_path():\n    return {library!r}\n")
        return fake_ort()

    fake_ort()
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_migraphx")
    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_amds_plugin_is_registered_once_and_gets_its_own_option_names(
    amd_plugin: Callable[[str], FakeOrt],
) -> None:
    fake = amd_plugin("/plugin.so")
    chosen = select("rocm")
    select("rocm")
    assert fake.registered == [("MIGraphXExecutionProvider", "/plugin.so")]
    assert session_providers(chosen, Path("/cache")) == [
        ("MIGraphXExecutionProvider", {"cache_dir": str(Path("/cache"))})
    ]


def test_a_plugin_without_a_device_says_so(amd_plugin: Callable[[str], FakeOrt]) -> None:
    amd_plugin("/plugin_without_device.so")
    assert probe("rocm").reason == "the plugin onnxruntime_ep_migraphx finds no device that it can run on"


# --- auto


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["CUDAExecutionProvider", "TensorrtExecutionProvider", "OpenVINOExecutionProvider"], "cuda"),
        (["OpenVINOExecutionProvider", "MIGraphXExecutionProvider"], "rocm"),
        (["CoreMLExecutionProvider", "DmlExecutionProvider"], "directml"),
        (["OpenVINOExecutionProvider", "CoreMLExecutionProvider"], "coreml"),
        (["OpenVINOExecutionProvider"], "openvino"),
        (["TensorrtExecutionProvider"], "cpu"),  # its engines take minutes to build: only when asked
        ([], "cpu"),
    ],
)
def test_auto_takes_the_fastest_that_works(fake_ort: Install, listed: list[str], expected: str) -> None:
    fake_ort(*listed)
    assert select("auto").name == expected


def test_auto_passes_over_what_is_listed_and_broken(fake_ort: Install) -> None:
    broken = {"CUDAExecutionProvider": raising(RuntimeError(NOTHING_PLACED))}
    fake_ort("CUDAExecutionProvider", "OpenVINOExecutionProvider", behaviour=broken)
    assert select("auto").name == "openvino"


# --- what a session is given


def test_the_cpu_is_in_the_session_only_where_it_is_the_choice(fake_ort: Install) -> None:
    fake_ort(
        *(engine.name for row in PROVIDERS.values() for engine in row.engines if engine.name[:3] != "CPU")
    )
    for name in PROVIDERS:
        names = [provider for provider, _ in session_providers(select(name))]
        assert ("CPUExecutionProvider" in names) == (name == "cpu")


def test_what_tensorrt_leaves_goes_to_cuda(fake_ort: Install) -> None:
    fake_ort("TensorrtExecutionProvider", "CUDAExecutionProvider")
    names = [provider for provider, _ in session_providers(select("tensorrt"))]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


def test_compiled_models_go_to_the_folder_that_was_given_and_nowhere_without_one(fake_ort: Install) -> None:
    fake_ort("TensorrtExecutionProvider")
    chosen = select("tensorrt")
    assert session_providers(chosen)[0] == ("TensorrtExecutionProvider", {})
    options = session_providers(chosen, Path("models", "ab{12}"))[0][1]
    assert options["trt_engine_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(Path("models", "ab{12}"))


# --- options


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_every_engine_takes_its_own_defaults_and_argues_them(row: providers.Provider) -> None:
    for engine in row.engines:
        said = engine.options.for_session()
        assert overridden(engine.options, said, row.name) == engine.options
        assert all(isinstance(value, str) for value in said.values())
        if said:
            assert engine.options.__doc__
            assert all(name in engine.options.__doc__ for name in said)


def test_an_option_goes_before_the_default_and_into_the_trial(fake_ort: Install) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    chosen = select("cuda", {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1", "use_tf32": "false"})
    expected = {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    assert session_providers(chosen) == [("CUDAExecutionProvider", expected)]
    assert fake.made[0][0] == [("CUDAExecutionProvider", expected)]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cuda", {"devic_id": "1"}, r"^provider cuda has no option 'devic_id'; it has device_id, cudnn_conv"),
        ("cuda", {"device_id": "one"}, r"^cuda's device_id is a whole number; 'one' is none$"),
        ("cuda", {"use_tf32": "maybe"}, r"^cuda's use_tf32 is true or false; 'maybe' is neither$"),
        (
            "cuda",
            {"cudnn_conv_algo_search": "BEST"},
            r"^cuda's cudnn_conv_algo_search is one of EXHAUSTIVE, HEURISTIC, DEFAULT; 'BEST' is none",
        ),
        ("cpu", {"device_id": "0"}, r"^provider cpu has no option 'device_id'; it has none$"),
        ("auto", {"device_id": "0"}, r"^option 'device_id' belongs to one provider: name that one instead"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused_before_anything_is_tried(
    name: str, given: dict[str, str], message: str, fake_ort: Install
) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    with pytest.raises(UsageError, match=message):
        select(name, given)
    assert fake.made == []


def test_each_engine_of_a_provider_is_asked_for_its_own_options(
    amd_plugin: Callable[[str], FakeOrt],
) -> None:
    amd_plugin("/plugin.so")
    assert select("rocm", {"exhaustive_tune": "on"}).options == {"exhaustive_tune": "1"}
    with pytest.raises(ProviderError, match="has no option 'migraphx_fp16_enable'; it has device_id, fp16"):
        select("rocm", {"migraphx_fp16_enable": "1"})  # an option of the build that is not installed


def test_openvino_is_told_true_and_false_as_it_wants_them(fake_ort: Install) -> None:
    fake_ort("OpenVINOExecutionProvider")
    chosen = select("openvino", {"disable_dynamic_shapes": "1"})
    assert chosen.options == {"device_type": "CPU", "disable_dynamic_shapes": "true"}


# --- the table


def test_the_choices_are_the_names_in_the_order_of_auto() -> None:
    assert list(PROVIDER_CHOICES) == ["auto", *PROVIDERS]
    assert PROVIDER_CHOICES[-1] == "cpu"


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_row_can_be_installed_as_it_says(name: str) -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    row = PROVIDERS[name]
    match = re.search(r"flavr\[(\w+)\]", row.pip[0].command)
    assert match
    requirements = [re.split(r"[\[<>=]", requirement)[0] for requirement in extras[match[1]]]
    assert set(requirements) & set(row.wheels)
