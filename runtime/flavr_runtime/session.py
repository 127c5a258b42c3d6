"""A FLAVR model loaded into ONNX Runtime on one execution provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flavr_runtime._cores import allowed_threads
from flavr_runtime._device import BoundMemory, HostMemory, Memory
from flavr_runtime._io_kinds import IO_KINDS, IoKind, Tensor
from flavr_runtime._ort_session import first_line, load, placed_nodes, tells_placement
from flavr_runtime.engine_cache import engine_folder, engine_key
from flavr_runtime.errors import InputError, ModelError, OutOfMemoryError
from flavr_runtime.frames import Rgb
from flavr_runtime.model_info import ModelInfo, check_size, read_model_info
from flavr_runtime.profile import spent
from flavr_runtime.providers import Engine, Selected, session_providers

if TYPE_CHECKING:
    import onnxruntime

WINDOW = 4  # frames that the network looks at
_NAMED = 5  # nodes of another provider that a notice names
_CPU = "CPUExecutionProvider"

# What the providers say of it, in lower case: ONNX Runtime's arena, C++, CUDA and HIP, cuDNN, Direct3D.
_OUT_OF_MEMORY = (
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "outofmemory",
    "alloc_failed",
    "not enough memory",
    "8007000e",
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as one session takes it: converted, and uploaded where that session has a device for it."""

    session: Session
    tensor: Any
    shape: tuple[int, ...]
    is_deep: bool  # uint16


class Session:
    """Runs windows of four frames. Safe to share between threads, as ONNX Runtime's sessions are."""

    def __init__(
        self,
        model: ModelInfo | Path | str,
        selected: Selected,
        *,
        threads: int | None = None,
        size: tuple[int, int] | None = None,
        cache: Path | None = None,
        strict: bool = False,
    ) -> None:
        """Load a file written by flavr-export.

        Args:
            model: its path, or what `read_model_info` returned for it.
            threads: CPU threads for one window; None takes one per physical core that this process may use.
            size: (height, width) of every picture that will come, where that is known. Others are refused
                then, and providers that work best on one size are told.
            cache: a folder in which providers that compile may keep the result for the next time.
            strict: refuse a model of which nodes are left to the CPU.

        Raises:
            ModelError: the file is missing, damaged, no FLAVR export, or does not run on the provider.
        """
        # Metadata first, from a session that optimises nothing: engines of some providers take minutes.
        self.info = model if isinstance(model, ModelInfo) else read_model_info(Path(model))
        self.selected = selected
        self.notices: list[str] = []
        """What the user should know about how the model runs, one sentence each."""
        self._engine = selected.engine or Engine(selected.execution_provider)
        self._io: IoKind = IO_KINDS[self.info.io]
        self._size = self.info.size or size
        if size is not None:
            check_size(self.info, size[1], size[0])
        self.threads = threads = allowed_threads() if threads is None else threads
        """CPU threads for one window; None: one per physical core."""
        strict = strict and selected.execution_provider != _CPU
        self._session = load(
            self.info.path,
            session_providers(self._told(threads), self._cache_folder(cache)),
            threads=threads,
            dimensions=self._dimensions(),
            forbid_cpu=strict and not tells_placement(),
        )
        actual = self._session.get_providers()[0]
        if actual != selected.execution_provider:
            raise ModelError(
                f"{self.info.path} was placed on {actual}: {selected.execution_provider} cannot run this "
                "graph; check it with flavr-export --for, or choose another --provider"
            )
        nodes = placed_nodes(self._session)
        self.placement = {name: len(names) for name, names in nodes.items()}
        self._judge(nodes, strict)
        self._memory = self._choose_memory()
        self._closed = False
        self._running: set[onnxruntime.RunOptions] = set()
        self.runtime_version = _runtime_version()

    @property
    def engine(self) -> onnxruntime.InferenceSession:
        """ONNX Runtime's own session, for I/O binding and whatever else is not offered here."""
        return self._session

    @property
    def io(self) -> IoKind:
        """How pictures become the graph's inputs, and its outputs pictures."""
        return self._io

    def prepare(self, picture: Rgb) -> Prepared:
        """Convert a picture, and upload it, once for all the windows that it is in.

        Raises:
            InputError: wrong type or shape.
            ModelError: the device refuses it, for want of memory perhaps.
        """
        check_picture(picture, 0)
        self._check_open()
        with spent("convert for the network"):
            tensor: Any = self._io.tensor(picture)
            if not self._io.packed:
                tensor = self._placed(tensor)
        return Prepared(self, tensor, picture.shape, picture.dtype == np.uint16)

    def run(self, frames: Sequence[Rgb | Prepared]) -> list[Rgb]:
        """The new frames between the middle two of four, in time order.

        They are uint16 if one of the four is and the model's ends are float, else uint8.

        Args:
            frames: four pictures of one size, uint8 or uint16 [H, W, 3] RGB, or what `prepare` made of them.

        Raises:
            InputError: wrong number, type or size of frames.
            OutOfMemoryError: a window of this size does not fit.
            ModelError: ONNX Runtime failed otherwise.
        """
        import onnxruntime as ort

        self._check_open()
        self._check(frames)
        ready = [frame if isinstance(frame, Prepared) else self.prepare(frame) for frame in frames]
        with spent("convert for the network"):
            feed = self._io.feed([frame.tensor for frame in ready])
            if self._io.packed:
                feed = {name: self._placed(tensor) for name, tensor in feed.items()}
        options = ort.RunOptions()
        self._running.add(options)
        try:
            with spent("session.run"):
                outputs = self._memory.run(self._session, feed, options)
        except Exception as error:  # ONNX Runtime has no error base class short of this
            height, width = ready[0].shape[:2]
            cure = "; fix the size with flavr-export --size" if self._wants_size() else ""
            kind = OutOfMemoryError if _is_out_of_memory(error) else ModelError
            raise kind(
                f"{self.selected.execution_provider} failed on a {width}x{height} window of "
                f"{self.info.path.name}: {first_line(error)}{cure}"
            ) from error
        finally:
            self._running.discard(options)
        with spent("convert from the network"):
            return self._io.pictures(outputs, 16 if any(frame.is_deep for frame in ready) else 8)

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"{self.info.path.name} was closed")

    def warm_up(self) -> None:
        """Run a window of the size given, where the first one takes much longer than those after it.

        Raises:
            ModelError: as for `run`.
        """
        if self._engine.warm_up and self._size is not None:
            self.run([np.zeros((*self._size, 3), np.uint8)] * WINDOW)

    def close(self) -> None:
        """Free the model and its memory, whoever still holds pictures prepared for it. It runs no more.

        Windows that other threads have begun end well, or with a ModelError.
        """
        self._closed = True
        del self._session

    def cancel(self) -> None:
        """Let the runs that are going on in other threads end at their next node, with a ModelError."""
        for options in tuple(self._running):
            options.terminate = True

    def _told(self, threads: int | None) -> Selected:
        """The provider, with --threads among its options where its threads are not ONNX Runtime's."""
        name = self._engine.threads_option
        if threads is None or not name or name in self.selected.options:
            return self.selected
        return replace(self.selected, options=self.selected.options | {name: str(threads)})

    def _cache_folder(self, cache: Path | None) -> Path | None:
        if cache is None or not self.selected.cache_options:
            return None
        try:
            return engine_folder(cache, engine_key(self.info, self.selected, self._size))
        except OSError as error:
            self.notices.append(
                f"what {self.selected.name} compiles is not kept for the next time: {cache} cannot be "
                f"written ({error.strerror or error}); name another folder with --cache-dir"
            )
            return None

    def _dimensions(self) -> dict[str, int]:
        """The symbolic dimensions that are known, for a provider that is better off with them."""
        if self._size is None or self.info.size is not None or not self._engine.fixed_shapes:
            return {}
        return {"batch": 1, "height": self._size[0], "width": self._size[1]}

    def _wants_size(self) -> bool:
        return self._engine.fixed_shapes and self._size is None

    def _judge(self, nodes: Mapping[str, Sequence[str]], strict: bool) -> None:
        """Note which nodes run elsewhere, and refuse those on the CPU where that was asked."""
        total = sum(map(len, nodes.values()))
        for name, names in nodes.items():
            if name == self.selected.execution_provider:
                continue
            some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
            what = f"{len(names)} of {total} nodes do not run on {self.selected.name} but on {name}: {some}"
            if strict and name == _CPU:
                raise ModelError(
                    f"{self.info.path.name}: {what}; go on with them by leaving out --strict, or see what "
                    "flavr-export --for says"
                )
            self.notices.append(what)

    def _choose_memory(self) -> Memory:
        memory = self._engine.memory
        if memory is None:
            return HostMemory()
        try:
            return BoundMemory(memory, int(self.selected.options.get("device_id", 0)))
        except RuntimeError as error:
            self.notices.append(
                f"frames are uploaded again for every window, since {self.selected.name} does not keep them "
                f"({first_line(error)})"
            )
            return HostMemory()

    def _placed(self, tensor: Tensor) -> Any:
        try:
            return self._memory.place(tensor)
        except Exception as error:  # as above
            kind = OutOfMemoryError if _is_out_of_memory(error) else ModelError
            raise kind(
                f"{self.selected.execution_provider} takes no more frames: {first_line(error)}"
            ) from error

    def _check(self, frames: Sequence[Rgb | Prepared]) -> None:
        check_window(frames)
        height, width = frames[0].shape[:2]
        check_size(self.info, width, height)
        if self._size is not None and self._size != (height, width):
            raise InputError(
                f"the session was made for {self._size[1]}x{self._size[0]} pictures, "
                f"these are {width}x{height}"
            )


def check_picture(picture: object, position: int) -> None:
    """Refuse what is no picture.

    Raises:
        InputError: naming the frame by its position.
    """
    if not isinstance(picture, np.ndarray):
        raise InputError(
            f"frame {position} is a {type(picture).__name__}; a NumPy array uint8 [H, W, 3] is needed"
        )
    if (
        picture.dtype not in (np.uint8, np.uint16)
        or picture.ndim != 3
        or picture.shape[2] != 3
        or not picture.size
    ):
        raise InputError(
            f"frame {position} is {picture.dtype} {list(picture.shape)}; "
            "uint8 [H, W, 3] RGB is needed, or uint16"
        )


def check_window(frames: Sequence[Rgb | Prepared]) -> None:
    """Refuse what is no window.

    Raises:
        InputError: naming the frame that is wrong by its position.
    """
    if len(frames) != WINDOW:
        raise InputError(f"{len(frames)} frames were given; FLAVR looks at {WINDOW}")
    for position, frame in enumerate(frames):
        if not isinstance(frame, Prepared):
            check_picture(frame, position)
        if frame.shape != frames[0].shape:
            raise InputError(
                f"frame {position} is {frame.shape[1]}x{frame.shape[0]}, "
                f"frame 0 is {frames[0].shape[1]}x{frames[0].shape[0]}; one size is needed"
            )


def _runtime_version() -> str:
    import onnxruntime as ort

    return str(ort.__version__)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)
