"""The Python interface: frames in, more frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr_runtime.engine_cache import default_cache_folder
from flavr_runtime.ensemble import VIEWS, check_ensemble, mean_over
from flavr_runtime.errors import InputError, ModelError, UsageError
from flavr_runtime.frames import Frame, Rgb
from flavr_runtime.memory import WINDOW_SHARE, available_bytes, loaded_bytes
from flavr_runtime.model_info import ModelInfo, read_model_info
from flavr_runtime.providers import Selected, select
from flavr_runtime.session import Session, check_picture, check_window
from flavr_runtime.shipped import shipped_model
from flavr_runtime.tiles import PreparedTiles, TiledSession, TileSetting, Tiling
from flavr_runtime.windows import plan_stages, windows

_IN_MAIN_MEMORY = ("cpu",)
"""Providers of which it is known what a window takes."""


class Interpolator:
    """Synthesises frames between frames.

    >>> from flavr_runtime import Interpolator
    >>> interpolator = Interpolator(provider="cpu")  # the network that ships with flavr
    >>> (middle,) = interpolator.between(f0, f1, f2, f3)  # doctest: +SKIP
    >>> smooth = interpolator.stream(frames, factor=4)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ModelInfo | Path | str | None = None,
        *,
        deep: bool = False,
        provider: Selected | str = "auto",
        provider_options: Mapping[str, object] | None = None,
        threads: int | None = None,
        size: tuple[int, int] | None = None,
        cache: Path | str | None = None,
        strict: bool = False,
        tile: TileSetting = "auto",
        ensemble: int = 1,
    ) -> None:
        """Load a model on a provider.

        Args:
            model: a file written by flavr-export; None takes the small 2x network that ships with flavr, in
                the form that the provider runs fastest.
            deep: without a model, whether pictures have more than 8 bits, and new ones are to have them too.
            provider: auto (the first that works here), cpu, cuda, rocm, ... as `flavr-providers` lists, or
                what `select` returned.
            provider_options: the provider's own, by ONNX Runtime's names: {"device_id": "1"}.
            threads: CPU threads for one window; None takes one per physical core that this process may use.
            size: (height, width) of all pictures, where known: others are refused then, and providers that
                work best on one size are told.
            cache: where providers keep what they compile; by default FLAVR_CACHE_DIR, or the platform's
                folder for caches.
            strict: refuse to leave nodes to the CPU.
            tile: auto cuts pictures that do not fit into memory, off never does, a number is the longest side
                of a tile in pixels, 128 at least.
            ensemble: 2, 4 or 8 make new frames the mean over so many views of their window (run backwards,
                upside down, mirrored): nearer to the truth, at so many times the arithmetic.

        Raises:
            UsageError: no such provider, tiles or ensemble, no threads, or an option that the
                provider does not have.
            ProviderError: the provider does not work on this machine.
            ModelError: the model cannot be loaded or does not run on the provider.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads {threads}: one is needed at least; leave it out for one per core")
        check_ensemble(ensemble)
        self._views = VIEWS[:ensemble]
        if isinstance(provider, Selected) and provider_options:
            raise UsageError("provider_options are for a provider by name; select(name, options) takes them")
        selected = provider if isinstance(provider, Selected) else select(provider, provider_options)
        if model is None:
            model = shipped_model(selected.graph, deep=deep)
        info = model if isinstance(model, ModelInfo) else read_model_info(Path(model))
        folder = default_cache_folder() if cache is None else Path(cache)

        def make(size: tuple[int, int] | None) -> Session:
            return Session(info, selected, threads=threads, size=size, cache=folder, strict=strict)

        budget = _window_budget(info) if selected.name in _IN_MAIN_MEMORY else None
        self._tiles = TiledSession(info, make, tile, budget, size)

    @property
    def model(self) -> ModelInfo:
        """What the model's metadata says."""
        return self._session.info

    @property
    def provider(self) -> str:
        """The provider in use, by flavr's name for it."""
        return self._session.selected.name

    @property
    def execution_provider(self) -> str:
        """The provider in use, by ONNX Runtime's name for it."""
        return self._session.selected.execution_provider

    @property
    def identity(self) -> dict[str, str]:
        """What runs the model: another provider or version rounds differently."""
        return {**self._session.selected.identity, "ONNX Runtime": self._session.runtime_version}

    @property
    def placement(self) -> str:
        """Which execution providers run how many nodes of the graph, for people."""
        counts = self._session.placement
        return (
            ", ".join(f"{name}: {count} nodes" for name, count in counts.items()) or self.execution_provider
        )

    @property
    def nodes(self) -> dict[str, int]:
        """Execution provider -> nodes of the graph that it runs."""
        return dict(self._session.placement)

    @property
    def notices(self) -> list[str]:
        """What the user should know about how the model runs, one sentence each."""
        return list(self._session.notices)

    @property
    def ensemble(self) -> int:
        """Over how many views of a window new frames are the mean."""
        return len(self._views)

    def warm_up(self) -> None:
        """Let a provider that compiles do it now, where the size is known; does nothing on the others."""
        self._tiles.warm_up()

    @property
    def late_notices(self) -> list[str]:
        """What has become of that on the way: smaller tiles, where larger ones did not fit."""
        return self._tiles.notices

    def tiling(self, height: int, width: int) -> Tiling:
        """How pictures of that size are cut, decided when it is first asked for.

        Raises:
            FlavrRuntimeError: the model cannot take such pictures.
        """
        return self._tiles.tiling(height, width)

    @property
    def runs_in_main_memory(self) -> bool:
        """Whether what a window takes is known before: a GPU's memory is its own."""
        return self.provider in _IN_MAIN_MEMORY

    @property
    def _session(self) -> Session:
        return self._tiles.session

    def between(self, f0: Rgb, f1: Rgb, f2: Rgb, f3: Rgb) -> list[Rgb]:
        """The model's new frames between `f1` and `f2`, in time order: `model.factor - 1` of them.

        Args:
            f0, f1, f2, f3: consecutive pictures of one size, uint8 or uint16 [H, W, 3] RGB. At
                the start of a clip pass its first frame twice, at the end its last.

        Returns:
            [H, W, 3] RGB pictures: uint16 for uint16 if the model's ends are float, else uint8.

        Raises:
            InputError: wrong type, shape or size.
            ModelError: ONNX Runtime failed, for want of memory perhaps.
        """
        if len(self._views) == 1:
            return self._tiles.run((f0, f1, f2, f3))
        check_window((f0, f1, f2, f3))
        return mean_over(self._views, self._tiles.run, (f0, f1, f2, f3))

    def cancel(self) -> None:
        """Let calls that run in other threads fail soon, with ModelError."""
        self._session.cancel()

    def stream(self, frames: Iterable[Rgb], *, factor: int | None = None) -> Iterator[Rgb]:
        """All frames with the new ones between them: n become (n - 1) * factor + 1.

        Lazy: frames are pulled as the result is consumed, and a few are held at a time.

        Args:
            frames: pictures of one size, uint8 or uint16 [H, W, 3] RGB. They are held until their windows
                are done: a generator must not write the next one into the same buffer.
            factor: any that the model makes, natively or by passing over its own result; by default the
                model's own.

        Raises:
            UsageError: the model cannot make this factor (raised at once, not at the first frame).
            InputError: as for `between`; also when a picture's size changes.
        """
        numbered = (Frame(rgb, Fraction(index)) for index, rgb in enumerate(frames))
        expanded = self.expand(numbered, self.model.factor if factor is None else factor)
        return (frame.rgb for frame in expanded)

    def expand(
        self, frames: Iterable[Frame], factor: int, *, cut_mode: CutMode = "repeat"
    ) -> Iterator[Frame]:
        """`stream` for timed frames: new ones sit at equal steps within their own interval.

        New pictures are made when they are first looked at. Between two equal pictures nothing moves, so
        they are repeated instead of synthesised, with their source, which is exact and takes no time.

        Args:
            factor: 1 adds nothing.
            cut_mode: what lies between a frame and the next one where that one starts a scene: the nearer
                of the two, or one fading into the other.
        """
        result: Iterable[Frame] = _recognised(frames)
        for stage in plan_stages(factor, self.model.factor):
            result = self._pass(result, stage, CUT_MODES[cut_mode])
        return iter(result)

    def _between(self, window: tuple[Frame, Frame, Frame, Frame]) -> list[Rgb]:
        """`between` for frames of a stream, which remember what they were converted to."""
        if len(self._views) > 1:
            f0, f1, f2, f3 = (frame.rgb for frame in window)
            return self.between(f0, f1, f2, f3)
        try:
            prepared = [self._prepared(frame) for frame in window]
        except (ModelError, MemoryError):  # if it was no other thread's, it happens again below
            return self._tiles.run([frame.rgb for frame in window])
        return self._tiles.run(prepared)

    def _prepared(self, frame: Frame) -> PreparedTiles:
        known = frame.prepared
        if not isinstance(known, PreparedTiles) or not self._tiles.takes(known):
            known = frame.prepared = self._tiles.prepare(frame.rgb)
        return known

    def _pass(self, frames: Iterable[Frame], stage: int, at_cut: AtCut) -> Iterator[Frame]:
        """One pass over a stream, multiplying its frames by `stage`."""
        every = self.model.factor // stage
        latest: Frame | None = None

        def remember(stream: Iterable[Frame]) -> Iterator[Frame]:
            nonlocal latest
            for frame in stream:
                latest = frame
                yield frame

        for window in windows(remember(frames)):
            _, start, end, _ = window
            yield start
            pictures = _Once(self._between, _within_scene(window))
            cut = start.cut or end.cut or ((start, end) if end.starts_scene else None)
            for step in range(1, stage):
                time = start.time + (end.time - start.time) * Fraction(step, stage)
                if cut is not None:
                    yield at_cut(*cut, time)
                elif start.same_picture(end):
                    yield start.repeated(time)
                else:
                    make = partial(pictures.one, step * every - 1)
                    yield Frame(make, time, origin="synthesised", between=_source_frames(start, end))
        if latest is not None:
            yield latest


def _repeat_nearer(start: Frame, end: Frame, time: Fraction) -> Frame:
    frame = (start if time - start.time <= end.time - time else end).repeated(time)
    frame.cut = start, end
    return frame


def _fade(start: Frame, end: Frame, time: Fraction) -> Frame:
    share = float((time - start.time) / (end.time - start.time))

    def blend() -> Rgb:
        mixed: NDArray[Any] = np.asarray(cv2.addWeighted(start.rgb, 1 - share, end.rgb, share, 0))
        return mixed

    frame = Frame(blend, time, origin="synthesised")
    frame.cut = start, end
    return frame


CutMode = Literal["repeat", "blend"]
AtCut = Callable[[Frame, Frame, Fraction], Frame]
CUT_MODES: Mapping[CutMode, AtCut] = MappingProxyType({"repeat": _repeat_nearer, "blend": _fade})
"""What makes the frame at a time between the two frames around a cut."""


def _within_scene(window: tuple[Frame, Frame, Frame, Frame]) -> tuple[Frame, Frame, Frame, Frame]:
    """The window with outer frames across or in a cut replaced by inner ones, as at a clip's end."""
    before, start, end, after = window
    return (
        start if start.starts_scene or before.cut else before,
        start,
        end,
        end if after.starts_scene or after.cut else after,
    )


class _Once:
    """The new pictures of one window, made together when the first of them is asked for."""

    def __init__(
        self,
        make: Callable[[tuple[Frame, Frame, Frame, Frame]], list[Rgb]],
        window: tuple[Frame, Frame, Frame, Frame],
    ) -> None:
        self._make = make
        self._window: tuple[Frame, Frame, Frame, Frame] | None = window
        self._pictures: list[Rgb] = []

    def one(self, index: int) -> Rgb:
        if self._window is not None:
            self._pictures = self._make(self._window)
            self._window = None  # lets go of the frames
        return self._pictures[index]


def _source_frames(start: Frame, end: Frame) -> tuple[Frame, Frame]:
    """The source frames around an interval whose ends may be synthesised themselves."""
    return start.between[0] if start.between else start, end.between[1] if end.between else end


def _recognised(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames, of one size, neighbours with equal pictures marked as such."""
    last: Frame | None = None
    for index, frame in enumerate(frames):
        check_picture(frame.rgb, index)
        if last is None:
            last = frame
        elif frame.rgb.shape != last.rgb.shape:
            (old_height, old_width), (height, width) = last.rgb.shape[:2], frame.rgb.shape[:2]
            raise InputError(
                f"the picture size changes from {old_width}x{old_height} to {width}x{height} "
                f"at frame {index}; one size is needed"
            )
        elif np.array_equal(frame.rgb, last.rgb):
            last = Frame(last.rgb, frame.time, frame.source, origin=frame.origin, same_as=last)
        else:
            last = frame
        yield last


def _window_budget(model: ModelInfo) -> int | None:
    """What one window may take, once the model is loaded."""
    available = available_bytes()
    return None if available is None else round(available * WINDOW_SHARE) - loaded_bytes(model)
