"""What it costs to encode in segments: size and PSNR for several lengths, against one encoder for everything.

The frames are those of a clip with averages between them, encoded as `flavr-run` does by default.

    python benchmarks/segment_length.py clip.mp4 another.mp4
    python benchmarks/segment_length.py clip.mp4 --codec vp9 --length 250
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from numpy.typing import NDArray

from flavr_runtime.encoders import ENCODERS

_RATE = Fraction(50)
_FORMAT = "yuv420p"


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--codec", type=click.Choice(list(ENCODERS)), default="h264", show_default=True)
@click.option("--length", "lengths", type=int, multiple=True, default=(500, 250, 120, 60, 24))
def main(clips: tuple[Path, ...], codec: str, lengths: tuple[int, ...]) -> None:
    """Print size and PSNR of CLIPS for each length of segments, relative to a single one."""
    for clip in clips:
        frames = list(_doubled(clip))
        size, psnr = _encode(frames, codec, len(frames))
        click.echo(f"{clip.name}: {len(frames)} frames, {codec}, {size} bytes, {psnr:.2f} dB")
        for length in lengths:
            other, quality = _encode(frames, codec, length)
            click.echo(f"  segments of {length:4}: {other / size - 1:+7.2%} size, {quality - psnr:+.3f} dB")


def _doubled(path: Path) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        pictures = (_samples(frame) for frame in container.decode(video=0))
        for before, after in itertools.pairwise(pictures):
            yield before
            yield ((before.astype(np.uint16) + after + 1) // 2).astype(np.uint8)
        yield after


def _samples(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format=_FORMAT), np.uint8)


def _encode(frames: list[NDArray[np.uint8]], codec: str, length: int) -> tuple[int, float]:
    """Size in bytes and mean PSNR of luma."""
    size, errors = 0, []
    for start in range(0, len(frames), length):
        part = frames[start : start + length]
        packets, extradata = _encode_segment(part, codec)
        size += sum(packet.size for packet in packets)
        rows = part[0].shape[0] * 2 // 3
        for frame, original in zip(_decoded(packets, codec, extradata), part, strict=True):
            difference = _samples(frame)[:rows].astype(np.float64) - original[:rows]
            errors.append(float((difference**2).mean()))
    return size, float(10 * np.log10(255**2 / np.mean(errors)))


def _encode_segment(frames: list[NDArray[np.uint8]], codec: str) -> tuple[list[Any], bytes | None]:
    row = ENCODERS[codec]
    options = dict(row.options)
    if row.crf is not None:
        options["crf"] = str(row.crf)
    if row.preset is not None:
        options[row.preset_option] = row.preset
    container = av.open(io.BytesIO(), "w", format="matroska")
    stream: Any = container.add_stream(row.name, rate=_RATE, options=options)
    stream.height, stream.width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    stream.pix_fmt = _FORMAT
    stream.codec_context.time_base = 1 / _RATE
    container.start_encoding()
    packets = []
    for index, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture, _FORMAT)
        frame.pts, frame.time_base = index, 1 / _RATE
        packets += stream.encode(frame)
    packets += stream.encode(None)
    extradata = stream.codec_context.extradata
    container.close()
    return packets, extradata


def _decoded(packets: list[Any], codec: str, extradata: bytes | None) -> Iterator[av.VideoFrame]:
    decoder: Any = av.CodecContext.create(av.Codec(ENCODERS[codec].name, "w").canonical_name, "r")
    if extradata:
        decoder.extradata = extradata
    for packet in [*packets, None]:
        yield from decoder.decode(packet)


if __name__ == "__main__":
    main()
