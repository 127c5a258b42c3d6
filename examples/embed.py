"""Double the frame rate of raw video with ONNX Runtime and NumPy alone, as an application would embed it.

ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | python examples/embed.py model.onnx 256 144 > smooth.rgb

What flavr-run does besides (cuts, equal frames, tiles, colours, sound) is left out on purpose.
"""

import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def read(stream: BinaryIO, width: int, height: int) -> Iterator[Picture]:
    """Pictures [1, H, W, 3], RGB."""
    while data := stream.read(height * width * 3):
        if len(data) < height * width * 3:
            sys.exit(f"the stream ends within a picture; are they {width}x{height}, rgb24?")
        yield np.frombuffer(data, np.uint8).reshape(1, height, width, 3)


def smooth(session: ort.InferenceSession, frames: Iterator[Picture]) -> Iterator[Picture]:
    """Every frame, and after it those that the model makes before the next one."""
    names = [each.name for each in session.get_inputs()]  # frame0 .. frame3, in time order
    window: list[Picture] = []
    for frame in frames:
        window = [*window[-3:], frame] if window else [frame, frame]  # the first one is its own past
        if len(window) == 4:
            yield window[1]
            yield from session.run(None, dict(zip(names, window, strict=True)))
    if len(window) < 3:  # a single frame, or none
        yield from window[1:]
        return
    yield window[-2]
    last = [*window[-3:], window[-1]]  # the last one is its own future
    yield from session.run(None, dict(zip(names, last, strict=True)))
    yield window[-1]


def main() -> None:
    model, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("flavr.io") != "uint8":
        sys.exit(f"{model} does not take uint8 pictures; export it with --io uint8")
    for picture in smooth(session, read(sys.stdin.buffer, width, height)):
        sys.stdout.buffer.write(picture.tobytes())


if __name__ == "__main__":
    main()
