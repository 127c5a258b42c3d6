"""Named pipes and devices as outputs: written into, never replaced."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from clips import render_clip
from flavr_runtime._destination import StdoutDestination, stream_destination
from flavr_runtime.errors import FlavrRuntimeError, OutputError, UsageError
from flavr_runtime.manifest import manifest_path
from flavr_runtime.media import open_sink, open_source
from flavr_runtime.workfolder import WorkFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So small that a pipe holds its frames: nobody has to read them while they are written."""
    return render_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=3)


class Fifo:
    """A named pipe whose reading end is open, so that opening the other one does not wait."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        return os.read(self._end, 1 << 20)

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def fifo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fifo]:
    pipe = Fifo(tmp_path / request.param)
    yield pipe
    pipe.close()


def write(clip: Path, target: Path | str, **settings: Any) -> None:
    with open_source(clip) as source, open_sink(target, source, source.info.rate, **settings) as sink:
        for frame in source.frames():
            sink.write(frame)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("fifo", "container", "kind"),
    [
        ("p.y4m", None, "yuv4mpegpipe"),
        ("p", None, "yuv4mpegpipe"),
        ("p.pipe", None, "yuv4mpegpipe"),
        ("p.mkv", None, "matroska"),
        ("p", "matroska", "matroska"),
    ],
    indirect=["fifo"],
)
def test_who_reads_a_named_pipe_gets_the_result(
    fifo: Fifo, container: str | None, kind: str, overwrite: bool, clip: Path
) -> None:
    write(clip, fifo.path, container=container, overwrite=overwrite)
    assert fifo.path.is_fifo()
    assert [path.name for path in fifo.path.parent.iterdir()] == [fifo.path.name]
    with av.open(io.BytesIO(fifo.read()), "r", format=kind) as result:
        assert len(list(result.decode(video=0))) == 3
    assert fifo.read() == b""  # its end: nobody has the pipe open for writing


@pytest.mark.parametrize("fifo", ["p.mp4"], indirect=True)
def test_what_a_named_pipe_cannot_take_is_one_line(fifo: Fifo, clip: Path) -> None:
    message = "mp4 cannot be written to .*p.mp4, which cannot seek; use --output-format y4m or rawvideo or"
    with pytest.raises(OutputError, match=message):
        write(clip, fifo.path)
    with pytest.raises(UsageError, match=r"--resume: what goes to .*p\.mp4 as matroska cannot be continued"):
        write(clip, fifo.path, container="matroska", work=WorkFolder(fifo.path, resume=True))
    assert fifo.path.is_fifo()


@pytest.mark.parametrize("container", [None, "matroska"])
def test_a_run_for_its_own_sake_goes_to_the_null_device(
    clip: Path, container: str | None, tmp_path: Path
) -> None:
    # Through a link: were it replaced by a file, root would lose no more than the link.
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    write(clip, link, container=container)
    assert link.is_symlink()
    assert link.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_the_device_of_standard_output_is_standard_output(name: str, clip: Path) -> None:
    destination = stream_destination(Path(name), clip)  # not written: a mistake here would replace the device
    assert isinstance(destination, StdoutDestination)
    with pytest.raises(OutputError, match="--manifest: standard output has no place"):
        manifest_path(name, overwrite=False)


def test_what_is_no_file_is_never_replaced(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("out.mp4")
        with pytest.raises(OutputError, match=r"^out\.mp4: neither a file, a pipe nor a stream"):
            write(clip, "out.mp4", overwrite=True)
        assert Path("out.mp4").is_socket()


def test_a_terminal_is_no_place_for_a_result(clip: Path) -> None:
    main, terminal = os.openpty()
    try:
        with pytest.raises(FlavrRuntimeError, match=r"is a terminal: name a file or a pipe"):
            write(clip, os.ttyname(terminal))
    finally:
        os.close(main)
        os.close(terminal)
