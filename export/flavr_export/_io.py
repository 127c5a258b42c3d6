"""The ends of the exported graph: pictures of any size to padded network input, and back.

Order matters for exactness: the mean is taken over the real pixels, the borders that bring height and width
to multiples of 8 repeat the edge, and the result is cropped before it is scaled back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from flavr.config import MULTIPLE, WINDOW
from flavr_export._builder import FLOAT, UINT8, GraphBuilder
from flavr_export._form import Feature
from flavr_export.spec import ExportSpec

HEIGHT, WIDTH = 2, 3  # axes of a [B, C, H, W] tensor


def read_inputs(g: GraphBuilder, spec: ExportSpec) -> tuple[Feature, str, str | None]:
    """Declare the inputs. Returns four frames [B, 3, H8, W8] less their mean, that mean,
    and the tensor that names the real [height, width] where padding must be cut off again, else None."""
    frames, mean = _declare_inputs(g, spec)
    centred = tuple(g.op("Sub", [frame, mean], f"input/centre/t{t}") for t, frame in enumerate(frames))
    if spec.size is not None:
        aligned = not any(side % MULTIPLE for side in spec.size)
        return _pad_fixed(g, spec, centred, spec.size), mean, None if aligned else g.integers(*spec.size)
    size = _size_of(g, frames[0])
    return _pad_dynamic(g, spec, centred, size), mean, size


def write_outputs(
    g: GraphBuilder, spec: ExportSpec, factor: int, mids: str, mean: str, size: str | None
) -> None:
    """From the network's [B, 3 n, H8, W8] to the declared outputs."""
    if size is not None:
        mids = g.op("Slice", [mids, g.integers(0, 0), size, g.integers(HEIGHT, WIDTH)], "output/crop")
    batch, height, width = _dimensions(spec)
    names = spec.output_names(factor)
    if spec.io == "packed":
        means = g.op("Concat", [mean] * (factor - 1), "output/mean", axis=1)
        g.rename_output(g.op("Add", [mids, means], "output/add"), names[0])
        g.output(names[0], FLOAT, [batch, 3 * (factor - 1), height, width])
        return
    for n, name in enumerate(names):
        at = f"output/{name}"
        picture = mids if factor == 2 else g.slice(mids, 1, 3 * n, 3 * n + 3, f"{at}/split")
        picture = g.op("Add", [picture, mean], f"{at}/add")
        if spec.io == "float":
            g.rename_output(picture, name)
            g.output(name, FLOAT, [batch, 3, height, width])
        else:
            g.rename_output(_quantised(g, picture, at), name)
            g.output(name, UINT8, [batch, height, width, 3])


def reflect_border(g: GraphBuilder, spec: ExportSpec, x: str, border: int) -> str:
    """Mirror `border` rows and columns at each side, without repeating the edge (ReflectionPad2d)."""
    if spec.padding == "pad":
        pads = g.integers(0, 0, border, border, 0, 0, border, border)
        return g.op("Pad", [x, pads], "outconv/reflect", mode="reflect")
    for axis, label in ((HEIGHT, "rows"), (WIDTH, "columns")):
        at = f"outconv/reflect/{label}"
        before = [g.slice(x, axis, i, i + 1, f"{at}/before{i}") for i in range(border, 0, -1)]
        after = [g.slice(x, axis, -i - 1, -i, f"{at}/after{i}") for i in range(1, border + 1)]
        x = g.op("Concat", [*before, x, *after], at, axis=axis)
    return x


def _dimensions(spec: ExportSpec) -> tuple[int | str, int | str, int | str]:
    if spec.size is not None:
        return (1, *spec.size)
    return (1 if spec.io == "packed" else "batch"), "height", "width"


def _declare_inputs(g: GraphBuilder, spec: ExportSpec) -> tuple[Feature, str]:
    """Graph inputs as four float tensors [B, 3, H, W] in [0, 1], and their mean [B, 3, 1, 1]."""
    batch, height, width = _dimensions(spec)
    names = spec.input_names
    if spec.io == "uint8":
        return _from_bytes(g, [g.input(name, UINT8, [batch, height, width, 3]) for name in names])
    if spec.io == "packed":
        packed = g.input(names[0], FLOAT, [batch, 3 * WINDOW, height, width])
        frames = [g.slice(packed, 1, 3 * t, 3 * t + 3, f"input/t{t}") for t in range(WINDOW)]
    else:
        frames = [g.input(name, FLOAT, [batch, 3, height, width]) for name in names]
    return tuple(frames), g.mean(frames, (WIDTH, HEIGHT), "input/mean")


def _from_bytes(g: GraphBuilder, pictures: Sequence[str]) -> tuple[Feature, str]:
    """The mean is taken before colours are moved to their planes. Taken after, ONNX Runtime's optimiser puts
    the moving off until the mean is subtracted: at 256x448 1.7 ms a frame instead of 0.15."""
    floats = [g.op("Cast", [x], f"input/{x}/cast", to=TensorProto.FLOAT) for x in pictures]
    # Multiplying by the rounded reciprocal is at most 1 ulp from dividing, and faster.
    scale = g.scalar(float(np.float32(1 / 255)))
    mean = g.op("Mul", [g.mean(floats, (2, 1), "input/mean"), scale], "input/mean/scale")
    planes = []
    for name, x in zip(pictures, floats, strict=True):
        planar = g.op("Transpose", [x], f"input/{name}/planar", perm=[0, 3, 1, 2])
        planes.append(g.op("Mul", [planar, scale], f"input/{name}/scale"))
    return tuple(planes), g.op("Reshape", [mean, g.integers(-1, 3, 1, 1)], "input/mean/planar")


def _quantised(g: GraphBuilder, picture: str, at: str) -> str:
    scaled = g.op("Mul", [picture, g.scalar(255.0)], f"{at}/scale")
    rounded = g.op("Round", [scaled], f"{at}/round")
    clipped = g.op("Clip", [rounded, g.scalar(0.0), g.scalar(255.0)], f"{at}/clip")
    as_bytes = g.op("Cast", [clipped], f"{at}/cast", to=TensorProto.UINT8)
    return g.op("Transpose", [as_bytes], f"{at}/interleaved", perm=[0, 2, 3, 1])


def _size_of(g: GraphBuilder, frame: str) -> str:
    """[height, width] of a [B, C, H, W] tensor, at run time."""
    return g.slice(g.op("Shape", [frame], "input/shape"), 0, HEIGHT, WIDTH + 1, "input/size")


def _pad_fixed(g: GraphBuilder, spec: ExportSpec, frames: Feature, size: tuple[int, int]) -> Feature:
    bottom, right = (-size[0] % MULTIPLE, -size[1] % MULTIPLE)
    if spec.padding == "pad":
        if not bottom and not right:
            return frames
        pads = g.integers(0, 0, 0, 0, 0, 0, bottom, right)
        return tuple(g.op("Pad", [x, pads], f"input/pad/t{t}", mode="edge") for t, x in enumerate(frames))
    return tuple(
        _repeat_edge(
            g, _repeat_edge(g, x, HEIGHT, bottom, f"input/pad/t{t}"), WIDTH, right, f"input/pad/t{t}"
        )
        for t, x in enumerate(frames)
    )


def _pad_dynamic(g: GraphBuilder, spec: ExportSpec, frames: Feature, size: str) -> Feature:
    eight = g.integers(MULTIPLE)
    missing = g.op("Mod", [g.op("Neg", [size], "input/pad/neg"), eight], "input/pad/missing")
    if spec.padding == "pad":
        pads = g.op("Concat", [g.integers(*[0] * 6), missing], "input/pad/pads", axis=0)
        return tuple(g.op("Pad", [x, pads], f"input/pad/t{t}", mode="edge") for t, x in enumerate(frames))
    # How much is missing is only known at run time: repeat the most that can be, then cut.
    ends = g.op("Add", [size, missing], "input/pad/ends")
    starts, axes = g.integers(0, 0), g.integers(HEIGHT, WIDTH)
    padded = []
    for t, x in enumerate(frames):
        at = f"input/pad/t{t}"
        taller = _repeat_edge(g, x, HEIGHT, MULTIPLE - 1, at)
        larger = _repeat_edge(g, taller, WIDTH, MULTIPLE - 1, at)
        padded.append(g.op("Slice", [larger, starts, ends, axes], f"{at}/cut"))
    return tuple(padded)


def _repeat_edge(g: GraphBuilder, x: str, axis: int, times: int, at: str) -> str:
    if not times:
        return x
    label = {HEIGHT: "bottom", WIDTH: "right"}[axis]
    edge = g.slice(x, axis, -1, 0, f"{at}/{label}/edge")
    return g.op("Concat", [x, *[edge] * times], f"{at}/{label}", axis=axis)
