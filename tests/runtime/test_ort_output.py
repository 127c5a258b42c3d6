"""What ONNX Runtime prints is kept off the terminal and reduced to a reason that a person can act on."""

from __future__ import annotations

import os
import sys

import pytest

from flavr_runtime._ort_output import captured, one_line_reason

NOTHING_PLACED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU "
    "EP, but fallback to CPU EP has been explicitly disabled by the user."
)
LOG = "\x1b[1;31m2026-01-02 03:04:05.6 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
WARNING = "\x1b[0;93m2026-01-02 [W:onnxruntime:Default, state.cc:1066 Create] Failed to create it.\x1b[m\n"


@pytest.mark.parametrize(
    ("error", "output", "expected"),
    [
        pytest.param(
            NOTHING_PLACED,
            f"{LOG}/src/bridge.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() "
            "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /site/libonnxruntime_providers_cuda.so "
            f"with error: libcublasLt.so.13: cannot open shared object file\n{WARNING}",
            "libonnxruntime_providers_cuda.so cannot be loaded: "
            "libcublasLt.so.13: cannot open shared object file",
            id="library-in-the-log",
        ),
        pytest.param(
            "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /site/capi/libmgx.so with error: "
            "libhip.so.7: cannot open shared object file\n",
            "",
            "libmgx.so cannot be loaded: libhip.so.7: cannot open shared object file",
            id="library-in-the-exception",
        ),
        pytest.param(
            NOTHING_PLACED,
            f"{LOG}/src/factory.cc:141 std::string onnxruntime::Parse(std::shared_ptr<OVCore>, const Map&) "
            f"[ERROR] [OpenVINO] Device GPU is not available\n{WARNING}",
            "[OpenVINO] Device GPU is not available",
            id="logged-error",
        ),
        pytest.param(
            NOTHING_PLACED,
            f"{LOG}[ONNXRuntimeError] : 1 : FAIL : Error loading "
            r'"C:\site\cuda.dll" which depends on "cublasLt64_13.dll" which is missing.',
            r'Error loading "C:\site\cuda.dll" which depends on "cublasLt64_13.dll" which is missing',
            id="windows",
        ),
        pytest.param(
            NOTHING_PLACED, "", "it took none of the work, which would all have run on the CPU", id="no-work"
        ),
        pytest.param(
            "/src/state.cc:729 void onnxruntime::python::Register(Options&, const onnxruntime::Map&) "
            "Please install TensorRT.\n",
            "",
            "Please install TensorRT",
            id="source-location",
        ),
        pytest.param(
            "/src/cuda_call.cc:129 std::conditional_t<T, void> onnxruntime::CudaCall(ERR, const char*) "
            "[with ERR = cudaError; bool T = true] CUDA failure 100: no CUDA-capable device is detected "
            "; GPU=-1 ; hostname=box ; file=x.cc ; line=282 ; expr=cudaSetDevice(info_.device_id);",
            "",
            "CUDA failure 100: no CUDA-capable device is detected",
            id="cuda-without-host-name",
        ),
        pytest.param(
            NOTHING_PLACED,
            f"{LOG}/src/factory.cc:306 onnxruntime::Parse(const Options&, Info&)::<lambda(const string&)> "
            f"JSON parsing error: syntax error while parsing value\n{WARNING}",
            "JSON parsing error: syntax error while parsing value",
            id="lambda",
        ),
        pytest.param(
            "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /src/backend.cc:136 Back::Back("
            "std::unique_ptr<Model>&) [OpenVINO-EP] Exception while Loading Network: Exception from "
            "src/core.cpp:154:\nException from src/config.cpp:475:\nNotFound: Unsupported property NOPE.\n\n",
            "",
            "NotFound: Unsupported property NOPE",
            id="openvino-trail",
        ),
        pytest.param("two\nlines", "", "two lines", id="lines"),
        pytest.param("x" * 1000, "", "x" * 300 + "...", id="long"),
    ],
)
def test_a_reason_is_one_line_without_the_machinery(error: str, output: str, expected: str) -> None:
    assert one_line_reason(error, output) == expected


def test_native_and_python_output_are_kept_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as text:
        os.write(1, b"native out ")
        os.write(2, b"native err ")
        sys.stdout.write("python")
    os.write(2, b"after")
    assert text == ["native out native err python"]
    assert capfd.readouterr() == ("", "after")


def test_the_terminal_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), captured():
        raise ValueError("inside")
    sys.stdout.write("out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")


def test_output_is_captured_even_where_no_file_can_be_made(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with captured() as text:
        os.write(2, b"native")
        sys.stdout.write("python")
    assert text == ["python"]
    assert capfd.readouterr() == ("", "")
