"""What each execution provider can be told: one dataclass each, its defaults argued where it says them.

A field has ONNX Runtime's own name for the option. None says nothing, so that ONNX Runtime's default holds.
No default sets a precision: the model file carries it, so that the numbers are those flavr-export verified.
Left out is what a user cannot set with effect: user streams and allocators, cache folders (--cache-dir), and
CUDA graphs, which need every buffer at a fixed address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from flavr_runtime.errors import UsageError

_Options = TypeVar("_Options", bound="EngineOptions")

ArenaGrowth = Literal["kNextPowerOfTwo", "kSameAsRequested"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """No options at all."""

    false_true: ClassVar[tuple[str, str]] = ("0", "1")
    """How this provider spells the two."""

    def for_session(self) -> dict[str, str]:
        """As ONNX Runtime takes them."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: self.false_true[value] if isinstance(value, bool) else str(value)
            for name, value in said.items()
            if value is not None
        }


@dataclass(frozen=True, kw_only=True)
class CudaOptions(EngineOptions):
    """CUDAExecutionProvider.

    cudnn_conv_algo_search: EXHAUSTIVE times every algorithm once per frame size, which a clip repays, having
    one. HEURISTIC guesses; DEFAULT skips the search and can be slower by a factor.
    arena_extend_strategy: the default doubles the arena at each growth; at 4K that asks for memory that the
    model never uses.
    use_tf32: ONNX Runtime's default, on, rounds the factors of float32 products to 10 bits on Ampere and
    later; False gives the digits of the CPU, slower.
    prefer_nhwc: pays for float16 on tensor cores; not measured here, so left as it is.
    """

    device_id: int | None = None
    cudnn_conv_algo_search: Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"] = "EXHAUSTIVE"
    arena_extend_strategy: ArenaGrowth = "kSameAsRequested"
    gpu_mem_limit: int | None = None
    cudnn_conv_use_max_workspace: bool | None = None
    do_copy_in_default_stream: bool | None = None
    prefer_nhwc: bool | None = None
    use_tf32: bool | None = None
    fuse_conv_bias: bool | None = None
    tunable_op_enable: bool | None = None
    tunable_op_tuning_enable: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TensorrtOptions(EngineOptions):
    """TensorrtExecutionProvider.

    trt_builder_optimization_level: 0 to 5, how long a build may search; ONNX Runtime's default of 3 builds
    for minutes already. trt_fp16_enable makes TensorRT round a float32 model: export with --precision fp16
    instead, where the cost is measured.
    """

    device_id: int | None = None
    trt_max_workspace_size: int | None = None
    trt_fp16_enable: bool | None = None
    trt_bf16_enable: bool | None = None
    trt_builder_optimization_level: int | None = None
    trt_auxiliary_streams: int | None = None
    trt_sparsity_enable: bool | None = None
    trt_build_heuristics_enable: bool | None = None
    trt_context_memory_sharing_enable: bool | None = None
    trt_force_sequential_engine_build: bool | None = None
    trt_min_subgraph_size: int | None = None
    trt_max_partition_iterations: int | None = None
    trt_detailed_build_log: bool | None = None


@dataclass(frozen=True, kw_only=True)
class MigraphxOptions(EngineOptions):
    """MIGraphXExecutionProvider as built into ONNX Runtime.

    migraphx_exhaustive_tune stays off: tens of minutes of tuning are reported for it. The environment
    variables ORT_MIGRAPHX_* override whatever is set here.
    """

    device_id: int | None = None
    migraphx_fp16_enable: bool | None = None
    migraphx_bf16_enable: bool | None = None
    migraphx_fp8_enable: bool | None = None
    migraphx_int8_enable: bool | None = None
    migraphx_int8_calibration_table_name: str | None = None
    migraphx_exhaustive_tune: bool | None = None
    migraphx_mem_limit: int | None = None
    migraphx_arena_extend_strategy: ArenaGrowth | None = None


@dataclass(frozen=True, kw_only=True)
class MigraphxPluginOptions(EngineOptions):
    """The same provider as AMD ships it for ROCm 10 and later: a plugin, its options without the prefix."""

    device_id: int | None = None
    fp16_enable: bool | None = None
    bf16_enable: bool | None = None
    fp8_enable: bool | None = None
    int8_enable: bool | None = None
    int8_calibration_table_name: str | None = None
    exhaustive_tune: bool | None = None
    mem_limit: int | None = None
    arena_extend_strategy: ArenaGrowth | None = None


@dataclass(frozen=True, kw_only=True)
class RocmOptions(EngineOptions):
    """ROCMExecutionProvider, which ONNX Runtime had up to 1.22; its defaults hold."""

    device_id: int | None = None
    gpu_mem_limit: int | None = None
    arena_extend_strategy: ArenaGrowth | None = None
    miopen_conv_exhaustive_search: bool | None = None
    miopen_conv_use_max_workspace: bool | None = None
    do_copy_in_default_stream: bool | None = None
    tunable_op_enable: bool | None = None
    tunable_op_tuning_enable: bool | None = None


@dataclass(frozen=True, kw_only=True)
class DirectmlOptions(EngineOptions):
    """DmlExecutionProvider.

    performance_preference: adapter 0 drives the screen, which on laptops is the slow one. A device_id
    chooses the adapter itself, and this is then ignored.
    """

    false_true: ClassVar[tuple[str, str]] = ("False", "True")
    device_id: int | None = None
    performance_preference: Literal["default", "high_performance", "minimum_power"] = "high_performance"
    device_filter: Literal["gpu", "npu", "any"] | None = None
    disable_metacommands: bool | None = None


@dataclass(frozen=True, kw_only=True)
class CoremlOptions(EngineOptions):
    """CoreMLExecutionProvider.

    ModelFormat: the default, NeuralNetwork, is the older one: fewer operators and no float16 weights.
    """

    ModelFormat: Literal["MLProgram", "NeuralNetwork"] = "MLProgram"
    MLComputeUnits: Literal["ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"] | None = None
    RequireStaticInputShapes: bool | None = None
    SpecializationStrategy: Literal["Default", "FastPrediction"] | None = None
    AllowLowPrecisionAccumulationOnGPU: bool | None = None


@dataclass(frozen=True, kw_only=True)
class OpenvinoOptions(EngineOptions):
    """OpenVINOExecutionProvider.

    device_type: the wheel's own choice, made explicit. GPU would turn a float32 model into float16 unasked,
    AUTO changes the device in mid-clip, both are yours to ask for. num_of_threads: --threads sets it too.
    num_streams: several streams are for several windows at a time, which this program has not.
    load_config: OpenVINO's properties as JSON, such as {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}.
    """

    false_true: ClassVar[tuple[str, str]] = ("false", "true")  # it refuses 0 and 1
    device_type: str = "CPU"
    precision: Literal["FP32", "FP16", "ACCURACY"] | None = None
    num_of_threads: int | None = None
    num_streams: int | None = None
    model_priority: Literal["LOW", "MEDIUM", "HIGH", "DEFAULT"] | None = None
    enable_qdq_optimizer: bool | None = None
    enable_opencl_throttling: bool | None = None
    disable_dynamic_shapes: bool | None = None
    load_config: str | None = None


def option_names(options: EngineOptions) -> list[str]:
    """What can be given by name."""
    return [each.name for each in fields(options)]


def overridden(options: _Options, given: Mapping[str, object], provider: str) -> _Options:
    """The options with those that a user gave.

    Raises:
        UsageError: an option that the provider does not have, or a value that does not fit it.
    """
    kinds = get_type_hints(type(options))
    for name in given:
        if name not in option_names(options):
            raise UsageError(
                f"provider {provider} has no option {name!r}; it has "
                f"{', '.join(option_names(options)) or 'none'}"
            )
    parsed = {name: _parsed(text, kinds[name], f"{provider}'s {name}") for name, text in given.items()}
    return replace(options, **parsed)


def _parsed(given: object, kind: Any, what: str) -> object:
    text = str(given)  # from Python it may be a number or a truth value
    kinds = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    if get_origin(kind) is Literal or get_origin(kinds[0]) is Literal:
        choices = get_args(kind if get_origin(kind) is Literal else kinds[0])
        if text in choices:
            return text
        raise UsageError(f"{what} is one of {', '.join(choices)}; {text!r} is none of them")
    if kinds[0] is bool:
        meanings = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
        if text.lower() in meanings:
            return meanings[text.lower()]
        raise UsageError(f"{what} is true or false; {text!r} is neither")
    if kinds[0] is int:
        if text.isdecimal():
            return int(text)
        raise UsageError(f"{what} is a whole number; {text!r} is none")
    return text
