"""Videos as training material: finding them, decoding them, and dividing them among the splits.

A "video" is a video file or a folder of numbered images. Imports no PyTorch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from flavr._images import Rgb, read_rgb
from flavr._paths import VIDEO_SUFFIXES, images_in, natural
from flavr.errors import DataError

_FEWEST_IMAGES = 4  # a folder with fewer holds stills, not frames


@dataclass(frozen=True, slots=True)
class Video:
    """A video file or a folder of images, and what to call it."""

    path: Path
    name: str  # its path below the folder that was searched, with slashes


def find_videos(places: Iterable[Path]) -> list[Video]:
    """The videos that the given files and folders (searched whole) are or hold, each content once.

    Raises:
        DataError: one of the places does not exist, or holds no video.
    """
    found: dict[Path, Video] = {}
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist")
        videos = [Video(place, place.name)] if place.is_file() else list(_below(place))
        if not videos:
            raise DataError(
                f"{place} holds no video ({', '.join(sorted(s[1:] for s in VIDEO_SUFFIXES))}) "
                f"and no folder of {_FEWEST_IMAGES} images or more"
            )
        for video in videos:
            found.setdefault(video.path.resolve(), video)
    return _without_copies(found.values())


def _below(folder: Path) -> Iterator[Video]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")), key=lambda n: natural(Path(n))
        )
        here = Path(parent)
        if len(images_in(here)) >= _FEWEST_IMAGES:
            below = here.relative_to(folder).as_posix()
            yield Video(here, here.name if below == "." else below)
        for path in sorted((here / name for name in files if not name.startswith(".")), key=natural):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                yield Video(path, path.relative_to(folder).as_posix())


def _without_copies(videos: Iterable[Video]) -> list[Video]:
    """A copy under another name would end up in both splits."""
    seen: set[object] = set()
    kept = []
    for video in videos:
        key = _content_key(video.path)
        if key not in seen:
            seen.add(key)
            kept.append(video)
    return kept


def _content_key(path: Path) -> object:
    files = images_in(path) if path.is_dir() else [path]
    try:
        # Two different videos of one length do not share their first mebibyte. Folders of images can share
        # the first one, such as a black one, and all sizes, if nothing is compressed: hence the middle one.
        starts = [_start(file) for file in (files[0], files[len(files) // 2])]
        return path.is_dir(), tuple(file.stat().st_size for file in files), *starts
    except OSError as error:
        place = error.filename or path
        raise DataError(f"{place} cannot be read ({error.strerror}); take it away or mend it") from error


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(1 << 20)).hexdigest()


def split_videos(
    videos: Sequence[Video], val_fraction: float, otherwise: str = ""
) -> tuple[list[Video], list[Video]]:
    """Training and test videos: those whose names have the smallest hashes are for testing.

    The order of the list and the machine make no difference; a video that is added moves at most one other.
    A `val_fraction` above 0 gives at least one test video. `otherwise` ends the error: what else can be done
    where it is called.

    Raises:
        DataError: there is only one video, so that nothing would be left to train on.
    """
    if val_fraction <= 0:
        return list(videos), []
    if len(videos) < 2:
        raise DataError(
            f"{videos[0].path} is the only usable video, and train and test need one each: add "
            f"another{otherwise}"
        )
    ranked = sorted(videos, key=lambda video: hashlib.sha256(os.fsencode(video.name)).digest())
    count = min(max(1, round(len(videos) * val_fraction)), len(videos) - 1)
    chosen = {video.path for video in ranked[:count]}
    return [v for v in videos if v.path not in chosen], [v for v in videos if v.path in chosen]


def decode(video: Video, max_side: int | None = None) -> Iterator[Rgb]:
    """Every frame in order as uint8 RGB [H, W, 3], the longer side reduced to `max_side`.

    Raises:
        DataError: the video cannot be read, is damaged, or its picture changes size; its path is named.
    """
    frames = map(read_rgb, images_in(video.path)) if video.path.is_dir() else _decode_file(video.path)
    size: tuple[int, ...] | None = None
    for frame in frames:
        size = size or frame.shape
        if frame.shape != size:
            raise DataError(
                f"{video.path}: the picture changes from {size[1]}x{size[0]} to "
                f"{frame.shape[1]}x{frame.shape[0]}; split it there"
            )
        yield _reduced(frame, max_side)
    if size is None:
        raise DataError(f"{video.path}: no frame could be decoded")


def _reduced(frame: Rgb, max_side: int | None) -> Rgb:
    height, width = frame.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return frame
    scale = max_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _decode_file(path: Path) -> Iterator[Rgb]:
    try:
        # "file:" keeps a name such as "take:2.mp4" from being taken for a network protocol.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise DataError(f"{path}: it has no video track")
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise DataError(f"{path}: damaged at {frame.time or 0:.2f} s")
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except av.FFmpegError as error:
        raise DataError(f"{path}: not a video, or damaged ({error.strerror})") from error
