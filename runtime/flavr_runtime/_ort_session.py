"""How a session of ONNX Runtime is made and asked what it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flavr_runtime.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime


def load(
    path: Path,
    providers: list[Any],
    *,
    threads: int | None = None,
    optimise: bool = True,
    dimensions: Mapping[str, int] | None = None,
    forbid_cpu: bool = False,
) -> onnxruntime.InferenceSession:
    """Load a model file.

    Args:
        dimensions: values of symbolic dimensions that all inputs will have.
        forbid_cpu: fail where nodes are left to the CPU provider.

    Raises:
        ModelError: no ONNX file, or ONNX Runtime cannot load it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # A memory pattern is planned on top of what the first window has taken: a fifth more at the peak (width
    # 16, 640x360).
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what goes wrong is raised; the log would repeat it on the terminal
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in (dimensions or {}).items():
        options.add_free_dimension_override_by_name(name, value)
    if forbid_cpu:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: else a provider that fails is replaced by the CPU, with a line on stdout
        return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no error base class short of this
        if "INVALID_PROTOBUF" in str(error):
            raise ModelError(
                f"{path} is not an ONNX file, or is truncated or damaged; write one with flavr-export"
            ) from error
        if "xternal data" in str(error) or "External initializer" in str(error):
            raise ModelError(
                f"{path} takes its weights from a file beside it, which is missing or damaged: keep the two "
                f"in one folder ({first_line(error)})"
            ) from error
        raise ModelError(f"ONNX Runtime {ort.__version__} cannot load {path}: {first_line(error)}") from error


def tells_placement() -> bool:
    """Whether this ONNX Runtime says which provider took which node; 1.23 does not."""
    import onnxruntime as ort

    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def placed_nodes(session: onnxruntime.InferenceSession) -> dict[str, list[str]]:
    """Execution provider -> the nodes it runs, by name, before it fuses them. Empty where nobody knows."""
    nodes: dict[str, list[str]] = {}
    if tells_placement():
        for subgraph in session.get_provider_graph_assignment_info():
            names = (node.name or node.op_type for node in subgraph.get_nodes())
            nodes.setdefault(subgraph.ep_name, []).extend(names)
    return nodes


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
