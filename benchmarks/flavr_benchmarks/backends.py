"""What can be measured: one row per backend. The adapter is imported by the cell's own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from flavr_benchmarks.errors import UsageError
from flavr_runtime.providers import PROVIDERS

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to make the frames between frames."""

    name: str
    title: str  # for people
    adapter: str  # module:class with the interface of `workload.Workload`
    takes: Literal["onnx", "checkpoint", "nothing"]
    options: Mapping[str, str] = field(default_factory=dict)  # for the adapter
    precisions: tuple[str, ...] = PRECISIONS

    @property
    def is_baseline(self) -> bool:
        return self.takes == "nothing"


_TORCH = "flavr_benchmarks._torch_adapter:TorchWorkload"
_TORCH_PRECISIONS = ("fp32", "bf16", "fp16")
_BASELINE = "flavr_benchmarks._baseline_adapter:BaselineWorkload"

TABLE: tuple[Backend, ...] = (
    # Every provider of flavr_runtime is a backend: a new row there is one here.
    *(
        Backend(
            name=f"ort-{name}",
            title=f"ONNX Runtime on {provider.runs_on}",
            adapter="flavr_benchmarks._ort_adapter:OrtWorkload",
            takes="onnx",
            options={"provider": name},
        )
        for name, provider in PROVIDERS.items()
    ),
    Backend(
        name="torch-eager",
        title="PyTorch as it is",
        adapter=_TORCH,
        takes="checkpoint",
        precisions=_TORCH_PRECISIONS,
    ),
    Backend(
        name="torch-compile",
        title="PyTorch through torch.compile",
        adapter=_TORCH,
        takes="checkpoint",
        options={"compile": "yes"},
        precisions=_TORCH_PRECISIONS,
    ),
    Backend(
        name="average",
        title="the two middle frames, faded into each other",
        adapter=_BASELINE,
        takes="nothing",
        options={"method": "average"},
    ),
    Backend(
        name="dis-flow",
        title="OpenCV's DIS optical flow, warped half-way",
        adapter=_BASELINE,
        takes="nothing",
        options={"method": "dis-flow"},
    ),
    Backend(
        name="minterpolate",
        title="ffmpeg's motion-compensated interpolation",
        adapter=_BASELINE,
        takes="nothing",
        options={"method": "minterpolate"},
    ),
)

BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in TABLE})
BASELINES = tuple(backend for backend in TABLE if backend.is_baseline)
NETWORK_BACKENDS = tuple(backend for backend in TABLE if not backend.is_baseline)


def choose(names: Sequence[str], *, has_checkpoint: bool) -> list[Backend]:
    """The backends of those names; without any, all that can run here.

    Raises:
        UsageError: a name that is not in BACKENDS.
    """
    if names:
        for name in names:
            if name not in BACKENDS:
                raise UsageError(
                    f"--backend {name}: there is no such backend; there are {', '.join(BACKENDS)}"
                )
        return [BACKENDS[name] for name in dict.fromkeys(names)]
    from flavr_runtime.providers import probe

    def works(backend: Backend) -> bool:
        return has_checkpoint if backend.takes == "checkpoint" else probe(backend.options["provider"]).ok

    return [backend for backend in NETWORK_BACKENDS if works(backend)]
