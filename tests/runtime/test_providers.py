"""A provider is what computed something here, not what ONNX Runtime lists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_onnxruntime import FakeOrt, Install
from flavr_runtime import _probe_model, providers
from flavr_runtime.errors import ProviderError, UsageError
from flavr_runtime.providers import PROVIDERS, probe, select, session_providers

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
