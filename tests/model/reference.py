"""FLAVR in NumPy and float64, written from the published layer table, to check the fast versions against.

Nothing here comes from the project: no torch, no ONNX, no import of its packages, and the most literal
definition of every layer. A mistake in the project then cannot hide by being made here as well.
Features are [batch, channel, time, height, width]; tensors have the published names and layouts.
"""

from collections.abc import Mapping, Sequence
from itertools import count, product
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = Mapping[str, Array]
Triple = tuple[int, int, int]
ONE: Triple = (1, 1, 1)
ZERO: Triple = (0, 0, 0)


def flavr_forward(
    state: Mapping[str, NDArray[Any]], frames: NDArray[Any], join: str | None = None
) -> list[Array]:
    """The n frames [B, 3, H, W] between the middle two of `frames` [B, 3, 4, H, W] in [0, 1], unclamped."""
    if frames.ndim != 5 or frames.shape[1:3] != (3, 4) or frames.shape[3] % 8 or frames.shape[4] % 8:
        raise ValueError(f"frames must be [B, 3, 4, H, W], H and W multiples of 8, not {frames.shape}")
    tensors = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
    clip = np.asarray(frames, dtype=np.float64)
    mean = clip.mean(axis=(2, 3, 4), keepdims=True)
    features = encoder(clip - mean, tensors)
    out = head(decoder(features, tensors, _join_of(tensors, join)), tensors)
    return [out[:, i : i + 3] + mean[:, :, 0] for i in range(0, out.shape[1], 3)]


# ---------------------------------------------------------------- the network's parts


def encoder(x: Array, state: State) -> list[Array]:
    """The stem's output x0 and the four layers' outputs x1..x4."""
    features = [relu(_conv_bn(x, state, "encoder.stem", (1, 2, 2), (1, 3, 3)))]
    for layer, first_stride in enumerate((1, 2, 2, 1), start=1):
        x = features[-1]
        for block in range(_blocks(state, layer)):
            x = basic_block(x, state, f"encoder.layer{layer}.{block}", first_stride if block == 0 else 1)
        features.append(x)
    return features


def basic_block(x: Array, state: State, name: str, spatial_stride: int) -> Array:
    """Residual block `name`: conv, ReLU, conv, gate, plus the shortcut, ReLU."""
    stride = (1, spatial_stride, spatial_stride)
    out = relu(_conv_bn(x, state, f"{name}.conv1", stride, ONE))
    out = _conv_bn(out, state, f"{name}.conv2", ONE, ONE)
    out = _gate(out, state, f"{name}.fg")
    if f"{name}.downsample.0.weight" in state:
        x = _conv_bn(x, state, f"{name}.downsample", stride, ZERO)
    _same_shape(out, x)
    return relu(out + x)


def decoder(features: Sequence[Array], state: State, how: str) -> Array:
    """From x0..x4 to [B, w, T, H, W]; `how` is the join type."""
    x0, x1, x2, x3, x4 = features
    y = join_skip(leaky_relu(decoder_conv(x4, state, "decoder.0")), x3, how)
    y = join_skip(leaky_relu(decoder_up(y, state, "decoder.1")), x2, how)
    y = join_skip(leaky_relu(decoder_up(y, state, "decoder.2")), x1, how)
    y = join_skip(leaky_relu(decoder_conv(y, state, "decoder.3")), x0, how)
    return leaky_relu(decoder_up(y, state, "decoder.4"))


def decoder_conv(x: Array, state: State, name: str) -> Array:
    """Stage `name` that keeps the size: conv, gate, [batch norm]."""
    out = conv3d(x, state[f"{name}.conv.0.weight"], state[f"{name}.conv.0.bias"], ONE, ONE)
    out = _gate(out, state, f"{name}.conv.1")
    return _bn_if_present(out, state, f"{name}.conv.2")


def decoder_up(x: Array, state: State, name: str) -> Array:
    """Stage `name` that doubles height and width: transposed conv or upsample + conv, gate, [batch norm]."""
    if f"{name}.upconv.1.weight" in state:  # then index 0 is the upsampling, which has no tensors
        weight, bias = state[f"{name}.upconv.1.weight"], state[f"{name}.upconv.1.bias"]
        out, last = conv3d(upsample_trilinear(x), weight, bias), 1
    else:
        weight, bias = state[f"{name}.upconv.0.weight"], state[f"{name}.upconv.0.bias"]
        out, last = conv_transpose3d(x, weight, bias, (1, 2, 2), ONE), 0
    out = _gate(out, state, f"{name}.upconv.{last + 1}")
    return _bn_if_present(out, state, f"{name}.upconv.{last + 2}")


def join_skip(decoded: Array, encoded: Array, how: str) -> Array:
    """The skip connection: "concat" (decoder first), "add" or "none"."""
    _same_shape(decoded, encoded)
    joined = {"concat": np.concatenate([decoded, encoded], axis=1), "add": decoded + encoded, "none": decoded}
    return joined[how]


def head(x: Array, state: State) -> Array:
    """From [B, w, T, H, W] to [B, 3n, H, W]: fold time into channels, fuse them, draw the frames."""
    # The head is 2-D: it runs here as 3-D layers over a clip of one time step.
    folded = np.concatenate([x[:, :, t] for t in range(x.shape[2])], axis=1)[:, :, None]
    fused = conv3d(folded, state["feature_fuse.conv.0.weight"][:, :, None])
    fused = leaky_relu(_bn_if_present(fused, state, "feature_fuse.conv.1"))
    bordered = np.pad(fused, [(0, 0), (0, 0), (0, 0), (3, 3), (3, 3)], mode="reflect")
    return conv3d(bordered, state["outconv.1.weight"][:, :, None], state["outconv.1.bias"])[:, :, 0]


# ---------------------------------------------------------------- layers


def conv3d(
    x: Array, weight: Array, bias: Array | None = None, stride: Triple = ONE, padding: Triple = ZERO
) -> Array:
    """Cross-correlation with zero padding; `weight` is [out, in, kT, kH, kW]."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    kernel = weight.shape[2:]
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], kernel, stride, strict=True)]
    out = np.zeros((x.shape[0], weight.shape[0], *size))
    by_tap = weight.transpose(2, 3, 4, 0, 1)
    for tap in product(*map(range, kernel)):
        seen = padded[_grid(tap, stride, size)]
        out += np.einsum("oi,bithw->bothw", by_tap[tap], seen, optimize=True)
    return out if bias is None else out + _per_channel(bias)


def conv_transpose3d(
    x: Array, weight: Array, bias: Array | None = None, stride: Triple = ONE, padding: Triple = ZERO
) -> Array:
    """Every input voxel stamps the kernel, [in, out, kT, kH, kW], on an output cropped by `padding`."""
    size, kernel = x.shape[2:], weight.shape[2:]
    full = [(n - 1) * s + k for n, k, s in zip(size, kernel, stride, strict=True)]
    stamped = np.zeros((x.shape[0], weight.shape[1], *full))
    by_tap = weight.transpose(2, 3, 4, 0, 1)
    for tap in product(*map(range, kernel)):
        stamp = np.einsum("io,bithw->bothw", by_tap[tap], x, optimize=True)
        stamped[_grid(tap, stride, size)] += stamp
    out = stamped[_grid(padding, ONE, [n - 2 * p for n, p in zip(full, padding, strict=True)])]
    return out if bias is None else out + _per_channel(bias)


def upsample_trilinear(x: Array) -> Array:
    """Height and width doubled, time kept; pixel centres at half integers, edge values held."""
    vertical, horizontal = _doubling(x.shape[3]), _doubling(x.shape[4])
    out: Array = np.einsum("bcthw,hy,wx->bctyx", x, vertical, horizontal, optimize=True)
    return out


def gate(x: Array, weight: Array, bias: Array) -> Array:
    """Each channel times a sigmoid of a 1x1x1 conv of all the channels' means."""
    z = conv3d(x.mean(axis=(2, 3, 4), keepdims=True), weight, bias)
    sigmoid: Array = (1 + np.tanh(z / 2)) / 2  # in the form that cannot overflow
    return x * sigmoid


def batch_norm(x: Array, weight: Array, bias: Array, mean: Array, var: Array, eps: float = 1e-5) -> Array:
    """Evaluation mode: `mean` and `var` are the running statistics, not the batch's."""
    scaled = (x - _per_channel(mean)) / np.sqrt(_per_channel(var) + eps)
    return scaled * _per_channel(weight) + _per_channel(bias)


def relu(x: Array) -> Array:
    """Negative values become zero."""
    return np.maximum(x, 0)


def leaky_relu(x: Array, slope: float = 0.2) -> Array:
    """Negative values shrink by `slope`."""
    return np.where(x < 0, slope * x, x)


# ---------------------------------------------------------------- reading the state, small helpers


def _join_of(state: State, wanted: str | None) -> str:
    """What the tensors say; "add" and "none" have the same shapes, so there the caller must."""
    out_channels, in_channels = state["decoder.3.conv.0.weight"].shape[:2]
    possible = ["concat"] if in_channels == 2 * out_channels else ["add", "none"]
    join = possible[0] if wanted is None and len(possible) == 1 else wanted
    if join is None or join not in possible:
        raise ValueError(f"with these tensors join is one of {possible}, not {wanted!r}")
    return join


def _blocks(state: State, layer: int) -> int:
    return next(n for n in count() if f"encoder.layer{layer}.{n}.conv1.0.weight" not in state)


def _conv_bn(x: Array, state: State, name: str, stride: Triple, padding: Triple) -> Array:
    """Conv `name`.0, with bias where it has one, and batch norm `name`.1 where there is one."""
    out = conv3d(x, state[f"{name}.0.weight"], state.get(f"{name}.0.bias"), stride, padding)
    return _bn_if_present(out, state, f"{name}.1")


def _bn_if_present(x: Array, state: State, name: str) -> Array:
    if f"{name}.running_mean" not in state:
        return x
    weight, bias, mean, var = (
        state[f"{name}.{p}"] for p in ("weight", "bias", "running_mean", "running_var")
    )
    return batch_norm(x, weight, bias, mean, var)


def _gate(x: Array, state: State, name: str) -> Array:
    return gate(x, state[f"{name}.attn_layer.0.weight"], state[f"{name}.attn_layer.0.bias"])


def _grid(
    start: Sequence[int], stride: Sequence[int], size: Sequence[int]
) -> tuple[slice | EllipsisType, ...]:
    """The index of `size` places in time, height and width, `stride` apart, from `start` on."""
    return (..., *(slice(d, d + s * (n - 1) + 1, s) for d, s, n in zip(start, stride, size, strict=True)))


def _doubling(n: int) -> Array:
    """The matrix [n, 2n] that linearly interpolates n samples at twice the rate."""
    centres = (np.arange(2 * n) + 0.5) / 2 - 0.5
    # np.interp holds the end values beyond the first and last sample, which is the rule at the edges.
    return np.array([np.interp(centres, np.arange(n), sample) for sample in np.eye(n)])


def _per_channel(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1, 1)


def _same_shape(a: Array, b: Array) -> None:
    # NumPy would broadcast a mismatch away where a real network fails.
    if a.shape != b.shape:
        raise ValueError(f"cannot join features of shapes {a.shape} and {b.shape}")
