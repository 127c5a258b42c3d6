"""The table of execution providers: a new one is a new row here, and nothing else.

What an engine can be told, and what it is told by default, is in _provider_options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flavr_runtime._provider_options import (
    CoremlOptions,
    CudaOptions,
    DirectmlOptions,
    EngineOptions,
    MigraphxOptions,
    MigraphxPluginOptions,
    OpenvinoOptions,
    RocmOptions,
    TensorrtOptions,
)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Where tensors of a provider live, by ONNX Runtime's names."""

    kind: str
    vendor: int = -1  # PCI vendor, for the kinds that several vendors share


_CUDA_MEMORY = DeviceMemory("cuda")
_AMD_MEMORY = DeviceMemory("gpu", vendor=0x1002)
_DIRECTML_MEMORY = DeviceMemory("dml")


@dataclass(frozen=True, slots=True)
class Engine:
    """One of ONNX Runtime's execution providers, and how a session is to use it."""

    name: str
    options: EngineOptions = field(default_factory=EngineOptions)
    cache: Mapping[str, str] = field(default_factory=dict)
    """Options that keep compiled models in a folder; "{folder}" stands for its path."""
    plugin: str | None = None
    """The module that brings it as a library to register, where it is not built into ONNX Runtime."""
    preload: tuple[str, ...] = ()
    """Modules to import first, for the vendor libraries that come with them."""
    nvidia_libraries: bool = False
    """Whether CUDA and cuDNN from pip have to be loaded first."""
    fixed_shapes: bool = False
    """Whether it compiles or searches for each frame size anew, so that a session is best made for one."""
    warm_up: bool = False
    """Whether the first run takes much longer than the rest: it compiles, or times algorithms."""
    memory: DeviceMemory | None = None
    """Where frames are kept between the windows that use them; None for the CPU's memory."""
    threads_option: str = ""
    """The option that --threads sets, where the provider has threads of its own."""


@dataclass(frozen=True, slots=True)
class PipLine:
    """A command that installs a provider."""

    origin: str  # whose build it is: "AMD's build for ROCm 10"
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What a user can name after --provider."""

    name: str
    runs_on: str
    engines: tuple[Engine, ...]  # in order of preference
    backups: tuple[Engine, ...] = ()  # for nodes that the engine leaves, where the CPU would be a waste
    wheels: tuple[str, ...]  # the distributions that contain it; all of them install the module onnxruntime
    pip: tuple[PipLine, ...]  # in order of preference
    needs: str  # beyond the wheel, as in "it needs ..."
    systems: tuple[str, ...] = ("linux", "win32", "darwin")  # values of sys.platform it is built for
    auto: bool  # whether `auto` may choose it
    graph: str = "conv2d"  # which form of the network that ships it runs fastest, where that was measured


_CUDA = Engine(
    "CUDAExecutionProvider",
    options=CudaOptions(),
    nvidia_libraries=True,
    fixed_shapes=True,
    warm_up=True,
    memory=_CUDA_MEMORY,
)

_MIGRAPHX = Engine(
    "MIGraphXExecutionProvider",
    options=MigraphxOptions(),
    cache={"migraphx_model_cache_dir": "{folder}"},
    fixed_shapes=True,  # a pad by an amount that is known at run time only makes it throw
    warm_up=True,
    memory=_AMD_MEMORY,
)
# From ROCm 10 on AMD ships the same provider as a plugin for the plain wheel, with renamed options.
_MIGRAPHX_PLUGIN = Engine(
    "MIGraphXExecutionProvider",
    options=MigraphxPluginOptions(),
    cache={"cache_dir": "{folder}"},
    plugin="onnxruntime_ep_migraphx",
    preload=("migraphx",),
    fixed_shapes=True,
    warm_up=True,
    memory=_AMD_MEMORY,
)
_ROCM = Engine(  # removed after ONNX Runtime 1.22
    "ROCMExecutionProvider", options=RocmOptions(), fixed_shapes=True, warm_up=True
)

_AMD_WHEELS = ("onnxruntime-migraphx", "onnxruntime-rocm")
_AMD_PIP = (
    PipLine("a community build", "pip install 'flavr[rocm]'"),
    # PyPI has only an empty placeholder under this name: the version has to be given.
    PipLine(
        "AMD's build for ROCm 10",
        "pip install --extra-index-url https://stable.repo.amd.com/rocm/onnxruntime/whl-next/ "
        "'onnxruntime-ep-migraphx==1.0.0+rocm10.0.0'",
    ),
    PipLine(
        "AMD's build for ROCm 7.2",
        "pip install --no-index --no-deps "
        "-f https://repo.radeon.com/rocm/manylinux/rocm-rel-7.2.4/ onnxruntime-migraphx",
    ),
)
_AMD_NEEDS = (
    "an AMD GPU and a ROCm installation with MIGraphX (package migraphx), its libraries on LD_LIBRARY_PATH"
)

# In the order in which `auto` prefers them.
TABLE: tuple[Provider, ...] = (
    Provider(
        name="cuda",
        runs_on="NVIDIA GPU",
        engines=(_CUDA,),
        wheels=("onnxruntime-gpu",),
        # The extra asks for cuda and cudnn: the bare wheel lacks cuBLAS and cannot load its provider.
        pip=(PipLine("Microsoft's build", "pip install 'flavr[cuda]'"),),
        needs="an NVIDIA GPU with driver 580 or newer (525 for onnxruntime-gpu 1.26 or older)",
        systems=("linux", "win32"),
        auto=True,
    ),
    Provider(
        name="tensorrt",
        runs_on="NVIDIA GPU, through TensorRT",
        # `import tensorrt` loads the libraries that its wheel hides from the dynamic linker.
        engines=(
            Engine(
                "TensorrtExecutionProvider",
                options=TensorrtOptions(),
                cache={
                    "trt_engine_cache_enable": "1",
                    "trt_engine_cache_path": "{folder}",
                    "trt_timing_cache_enable": "1",
                    "trt_timing_cache_path": "{folder}",
                },
                preload=("tensorrt",),
                nvidia_libraries=True,
                fixed_shapes=True,
                warm_up=True,
                memory=_CUDA_MEMORY,
            ),
        ),
        backups=(_CUDA,),
        wheels=("onnxruntime-gpu",),
        # ONNX Runtime links libnvinfer.so.10; pip alone would take TensorRT 11.
        pip=(PipLine("Microsoft's and NVIDIA's builds", "pip install 'flavr[cuda]' 'tensorrt-cu13==10.*'"),),
        needs="TensorRT 10 beside all that cuda needs",
        systems=("linux", "win32"),
        auto=False,  # builds an engine for minutes at every new model and frame size
    ),
    Provider(
        name="rocm",
        runs_on="AMD GPU",
        engines=(_MIGRAPHX, _MIGRAPHX_PLUGIN, _ROCM),
        wheels=_AMD_WHEELS,
        pip=_AMD_PIP,
        needs=_AMD_NEEDS,
        systems=("linux",),
        auto=True,
    ),
    Provider(
        name="migraphx",
        runs_on="AMD GPU, MIGraphX only",
        engines=(_MIGRAPHX, _MIGRAPHX_PLUGIN),
        wheels=_AMD_WHEELS,
        pip=_AMD_PIP,
        needs=_AMD_NEEDS,
        systems=("linux",),
        auto=False,  # rocm has tried it already
    ),
    Provider(
        name="directml",
        runs_on="any DirectX 12 GPU on Windows",
        engines=(
            Engine(
                "DmlExecutionProvider",
                options=DirectmlOptions(),
                fixed_shapes=True,
                warm_up=True,
                memory=_DIRECTML_MEMORY,
            ),
        ),
        wheels=("onnxruntime-directml",),
        # Double quotes: cmd.exe takes single ones for part of the name.
        pip=(PipLine("Microsoft's build", 'pip install "flavr[directml]"'),),
        needs="Windows 10 (1903) or newer and a DirectX 12 GPU driver",
        systems=("win32",),
        auto=True,
    ),
    Provider(
        name="coreml",
        runs_on="Apple GPU and Neural Engine",
        engines=(
            Engine(
                "CoreMLExecutionProvider",
                options=CoremlOptions(),
                cache={"ModelCacheDirectory": "{folder}"},
                fixed_shapes=True,
                warm_up=True,
            ),
        ),
        wheels=("onnxruntime",),
        pip=(PipLine("Microsoft's build", "pip install 'flavr[cpu]'"),),  # in the plain macOS wheel
        needs="macOS 12 or newer",
        systems=("darwin",),
        auto=True,
    ),
    Provider(
        name="openvino",
        runs_on="Intel and AMD CPUs, Intel GPUs",
        engines=(
            Engine(
                "OpenVINOExecutionProvider",
                options=OpenvinoOptions(),
                cache={"cache_dir": "{folder}"},
                fixed_shapes=True,
                warm_up=True,
                threads_option="num_of_threads",
            ),
        ),
        wheels=("onnxruntime-openvino",),
        pip=(PipLine("Intel's build", "pip install 'flavr[openvino]'"),),
        needs="an x86-64 CPU",
        systems=("linux", "win32"),
        auto=True,
    ),
    Provider(
        name="cpu",
        runs_on="any CPU",
        engines=(Engine("CPUExecutionProvider"),),
        wheels=("onnxruntime",),
        pip=(PipLine("Microsoft's build", "pip install 'flavr[cpu]'"),),
        needs="",
        auto=True,
        graph="winograd",  # benchmarks/results/graph-forms-*
    ),
)
