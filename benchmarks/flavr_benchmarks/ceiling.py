"""The machine's ceiling: the best matrix product seen, which no network can be faster than for long.

    python -m flavr_benchmarks.ceiling '{"device": "cpu", "threads": 2}'

runs in a process of its own and prints {"fp32": GFLOP/s or a reason, ...}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from flavr_benchmarks.schema import Ceiling

_SMALLEST, _LARGEST = 128, {"cpu": 1024, "cuda": 8192}
_LONG = 0.05  # seconds, above which a larger product would not be faster for its size
_SECONDS = 0.6  # per precision
_TIMEOUT = 120
METHODS = {
    "fp32": "matrix product, fp32 (on a CPU the better of torch and ONNX Runtime)",
    "bf16": "torch matrix product, bf16",
    "fp16": "torch matrix product, fp16",
    "int8": "uint8 by int8 matrix product (MatMulInteger in ONNX Runtime, torch._int_mm on a GPU)",
}

_ENGINE = {
    "fp32": ("MatMul", "float", "float32", "float"),
    "int8": ("MatMulInteger", "uint8", "int8", "int32"),
}
"""ONNX Runtime's operator, and its ONNX types: left, right (as numpy says it) and result."""

_Product = Callable[[str, str, int, int | None], Callable[[], object]]

Measured = Mapping[str, float | str]  # GFLOP/s, or why not


def measure(device: str, threads: int | None, *, seconds: float = _SECONDS) -> Measured:
    """The ceilings of all precisions, in another process, for so long each."""
    argument = json.dumps({"device": device, "threads": threads, "seconds": seconds})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flavr_benchmarks.ceiling", argument],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
        result: Measured = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines()
        return dict.fromkeys(METHODS, words[-1] if words else f"exit code {error.returncode}")
    except (subprocess.TimeoutExpired, ValueError) as error:
        return dict.fromkeys(METHODS, f"{type(error).__name__}")
    return result


def ceilings(device: str, before: Measured, after: Measured) -> list[Ceiling]:
    """The better of two measurements, at the start and at the end of a run."""
    found = []
    for precision, method in METHODS.items():
        first, second = before.get(precision, "not measured"), after.get(precision, "not measured")
        reasons = [value for value in (first, second) if isinstance(value, str)]
        figures = [0.0 if isinstance(value, str) else float(value) for value in (first, second)]
        found.append(
            Ceiling(
                device=device,
                precision=precision,
                gflop_per_second=max(figures),
                before=figures[0],
                after=figures[1],
                method=method,
                failure=reasons[0] if reasons else None,
            )
        )
    return found


def main() -> None:
    """The process that measures."""
    import torch

    asked = json.loads(sys.argv[1])
    device = asked["device"]
    if device == "cuda" and not torch.cuda.is_available():
        print(json.dumps(dict.fromkeys(METHODS, f"PyTorch {torch.__version__} finds no GPU")))
        return
    if asked["threads"] is not None:
        torch.set_num_threads(asked["threads"])
    found = {name: _attempt(name, device, asked["threads"], asked["seconds"]) for name in METHODS}
    print(json.dumps(found))


def _attempt(precision: str, device: str, threads: int | None, seconds: float) -> float | str:
    try:
        products: list[_Product] = [_product]
        if device == "cpu" and precision in _ENGINE:
            products = [_engine_product] if precision == "int8" else [_product, _engine_product]
        return max(_best(product, precision, device, threads, seconds) for product in products)
    except Exception as error:  # a missing kernel raises whatever it likes
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _best(product: _Product, precision: str, device: str, threads: int | None, seconds: float) -> float:
    """GFLOP/s of a product that is large enough."""
    side = _SMALLEST
    run = product(precision, device, side, threads)
    run()
    # Some CPUs compute some types a thousand times slower: large products would take minutes.
    while side < _LARGEST[device] and _timed(run) < _LONG:
        side *= 2
        run = product(precision, device, side, threads)
    return round(2 * side**3 / _best_seconds(run, seconds) / 1e9, 1)


def _product(precision: str, device: str, side: int, _threads: int | None) -> Callable[[], object]:
    import torch

    if precision == "int8":
        left, right = (torch.randint(-100, 100, (side, side), dtype=torch.int8, device=device) for _ in "ab")
        product: Callable[[], Any] = lambda: torch._int_mm(left, right)  # noqa: E731
    else:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        first, second = (torch.randn(side, side, device=device).to(kind) for _ in "ab")
        product = lambda: first @ second  # noqa: E731

    def run() -> None:
        product()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _engine_product(precision: str, _device: str, side: int, threads: int | None) -> Callable[[], object]:
    """ONNX Runtime's, on the CPU."""
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    operator, left, right, result = _ENGINE[precision]
    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.integers(-100, 100, (side, side)).astype(right), "b")
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.DataType.Value(left.upper()), [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.DataType.Value(result.upper()), [side, side])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kind = {"float": "float32"}.get(left, left)
    feed = {"a": random.integers(0, 200, (side, side)).astype(kind)}
    return lambda: session.run(None, feed)


def _best_seconds(run: Callable[[], object], seconds: float) -> float:
    best, end = _timed(run), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, _timed(run))
    return best


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
