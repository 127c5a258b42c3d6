"""A run of `flavr-run`, checked and ready: nothing slow has happened yet but that its provider was tried."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from flavr_runtime._identity import file_hash, run_identity
from flavr_runtime._run_options import RunOptions
from flavr_runtime._sequences import is_sequence
from flavr_runtime.compare import ComparedSource, Comparison
from flavr_runtime.encoders import CONTAINERS, SUFFIXES, EncodeOptions
from flavr_runtime.errors import UsageError
from flavr_runtime.frames import FrameSink
from flavr_runtime.image_writer import work_place
from flavr_runtime.media import ReadOptions, open_sink, open_source
from flavr_runtime.model_info import ModelInfo, read_model_info
from flavr_runtime.pipes import STDIN
from flavr_runtime.providers import Selected, check_options, select
from flavr_runtime.scenes import CutMarker, ListedCuts, detected_cuts
from flavr_runtime.shipped import DEFAULT_MODEL, shipped_model
from flavr_runtime.tiles import check_tiles
from flavr_runtime.timing_plan import Timing, plan_timing
from flavr_runtime.traits import MediaSource
from flavr_runtime.workfolder import WorkFolder
from flavr_runtime.writer import VideoWriter

_SILENT = "the sound is left out of slow motion; --slowmo-audio stretch keeps it"
_IMAGE_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class Job:
    """Input, model, provider, timing and output, checked against each other."""

    source: MediaSource
    provider: Selected
    model: ModelInfo
    timing: Timing
    mark_cuts: CutMarker | None
    output: str
    silent: bool  # whether sound that OUTPUT could hold is left out because time is stretched
    work: WorkFolder
    sink: FrameSink

    @property
    def notices(self) -> list[str]:
        """What the user should know before it starts, one sentence each."""
        bits, exact = self.source.info.bits, self.model.io != "uint8"
        coarse = (
            f"its own frames keep their {bits} bits, new ones have 8: {self.model.path.name} takes no more; "
            "export it with --io float"
        )
        return [
            *([coarse] if bits > 8 and not exact else []),
            *([_SILENT] if self.silent else []),
            *self.source.notices,
            *self.sink.notices,
            *self.work.notices,
        ]

    @property
    def late_notices(self) -> list[str]:
        """What only the end of the source tells."""
        if not isinstance(self.mark_cuts, ListedCuts) or not self.mark_cuts.unreached:
            return []
        *most, last = self.mark_cuts.unreached
        what = f"the cuts at {', '.join(most)} and {last} lie" if most else f"the cut at {last} lies"
        return [f"{what} past the last frame; see {self.mark_cuts.path}"]

    @property
    def damage(self) -> list[str]:
        """What of the input could not be read, as far as the run has come."""
        return [*(f"{self.source.info.path.name}: {gap}" for gap in self.source.gaps), *self.sink.damage]


def prepare(input_path: Path, output: str | None, options: RunOptions, stack: contextlib.ExitStack) -> Job:
    """Check everything.

    Raises:
        FlavrRuntimeError: whatever is wrong with the options or the files, one line.
    """
    timing_options, encoding, engine = options.timing, options.encoding, options.engine
    check_options(engine.provider, engine.provider_options)
    if timing_options.slowmo_audio is not None and not timing_options.slowmo:
        raise UsageError("--slowmo-audio is for --slowmo: at its own speed the sound is copied")
    if timing_options.slowmo_audio == "stretch" and not encoding.audio:
        raise UsageError("--slowmo-audio stretch and --no-audio exclude each other: give one of them")
    if output is None and str(input_path) == STDIN:
        raise UsageError("what comes from a pipe has no name to give the result: name it with -o")
    source = stack.enter_context(open_source(input_path, _read_options(input_path, options)))
    model = read_model_info(engine.model or DEFAULT_MODEL)
    timing = plan_timing(
        source.info,
        model.factor,
        factor=timing_options.factor,
        fps=timing_options.fps,
        slowmo=timing_options.slowmo,
    )
    check_tiles(model, source.info.height, source.info.width, engine.tile)
    output = str(_default_output(input_path, options, timing)) if output is None else output
    work = _work_folder(input_path, output, options)
    silent = timing.stretch != 1 and timing_options.slowmo_audio != "stretch"
    compare = options.report.compare
    sink = open_sink(
        output,
        source if compare is None else ComparedSource(source, compare),
        timing.rate,
        EncodeOptions(
            codec=encoding.codec,
            crf=encoding.crf,
            preset=encoding.preset,
            pixel_format=None if _describes_input(options) else encoding.pixel_format,
            more=_pairs(encoding.encoder_option),
        ),
        container=encoding.output_format,
        audio=encoding.audio and not silent,
        overwrite=encoding.overwrite,
        constant_rate=True if timing_options.fps is not None else None,
        stretch=timing.stretch,
        work=work,
    )
    lost = encoding.audio and source.traits.audio and isinstance(sink, VideoWriter) and sink.holds_sound
    silent = silent and bool(lost)
    if compare is not None:
        sink = Comparison(sink, compare)
    mark_cuts = _cut_marker(options.scenes.cuts)
    provider = select(engine.provider, engine.provider_options)
    work.identify(provider.identity)
    if engine.model is None:  # the same network, whatever the form: all that was checked holds for it
        model = read_model_info(shipped_model(provider.graph, deep=source.info.bits > 8))
    work.identify({"the model": file_hash(model.path)})  # which stands for its weights too
    return Job(source, provider, model, timing, mark_cuts, output, silent, work, sink)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, sign, _) in zip(texts, pairs, strict=True):
        if not (name and sign):
            raise UsageError(f"--encoder-option {text}: write it as NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _work_folder(input_path: Path, output: str, options: RunOptions) -> WorkFolder:
    resume = options.encoding.resume
    place = work_place(output)
    if is_sequence(input_path) or input_path.is_file():
        return WorkFolder(place, resume=resume, identity=run_identity(input_path, options))
    if resume:
        raise UsageError(f"--resume: {input_path} is a stream, which cannot be read again; name a file")
    return WorkFolder(place, lasting=False)


def _read_options(input_path: Path, options: RunOptions) -> ReadOptions:
    source = options.source
    return ReadOptions(
        format=source.input_format,
        size=source.video_size,
        pixel_format=(
            options.encoding.pixel_format if _describes_input(options) else source.input_pixel_format
        ),
        rate=source.framerate or (_IMAGE_RATE if is_sequence(input_path) else None),
        drop_alpha=source.drop_alpha,
    )


def _describes_input(options: RunOptions) -> bool:
    """Whether --pixel-format says how raw samples are to be read, and so is no wish for the result."""
    return options.source.input_format == "rawvideo" and options.source.input_pixel_format is None


def _cut_marker(cuts: str) -> CutMarker | None:
    if cuts in ("auto", "off"):
        return detected_cuts if cuts == "auto" else None
    return ListedCuts(Path(cuts))


def _default_output(input_path: Path, options: RunOptions, timing: Timing) -> Path:
    """The input's name with what is done to it, in the current folder; MP4 where that cannot be written.

    --output-format chooses its suffix; an unknown one is refused later.
    """
    if is_sequence(input_path):
        input_path = input_path if input_path.is_dir() else input_path.absolute().parent
        suffix = ""
    else:
        container = CONTAINERS.get(input_path.suffix.lower())
        suffix = ".mp4" if container is None or container.asked_only else input_path.suffix
    suffix = SUFFIXES.get(options.encoding.output_format or "", suffix)
    fps = options.timing.fps
    done = (f"{timing.factor}x" if fps is None else f"{float(fps):g}fps") + "_slow" * options.timing.slowmo
    return Path(f"{input_path.absolute().with_suffix('').name}_{done}{suffix}")
