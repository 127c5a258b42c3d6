"""The whole exported graph: I/O layers around the network's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from flavr.config import BLOCKS, LEAK, STRIDES, FlavrConfig
from flavr_export._builder import GraphBuilder
from flavr_export._form import Feature, Form
from flavr_export._forms import FORMS
from flavr_export._io import read_inputs, reflect_border, write_outputs
from flavr_export.spec import ExportSpec

if TYPE_CHECKING:
    from flavr.checkpoints import StateDict


def build_graph(config: FlavrConfig, state_dict: StateDict, spec: ExportSpec) -> onnx.ModelProto:
    """Write the network of `config` with the weights of `state_dict` in the form that `spec` describes.

    Args:
        state_dict: published key names, float32.

    Returns:
        A checked model without metadata.
    """
    weights = {key: tensor.detach().cpu().numpy() for key, tensor in state_dict.items()}
    g = GraphBuilder(spec.opset)
    form = FORMS[spec.graph](g, weights, spec)
    frames, mean, size = read_inputs(g, spec)
    folded = _decode(form, config, _encode(form, config, form.enter(frames)))
    mids = _output_convolution(form, config, spec, folded)
    write_outputs(g, spec, config.factor, mids, mean, size)
    return g.model(f"flavr_{config.arch}_{config.factor}x")


def _encode(form: Form, config: FlavrConfig, x: Feature) -> list[Feature]:
    """Features x0..x4 of the encoder."""
    bn = config.batchnorm
    x = form.conv(x, "encoder.stem.0", stride=2, bn="encoder.stem.1" if bn else None)
    features = [form.relu(x, "encoder.stem/relu")]
    for number, (blocks, stride) in enumerate(zip(BLOCKS[config.arch], STRIDES, strict=True), start=1):
        x = features[-1]
        for block in range(blocks):
            x = _residual_block(form, f"encoder.layer{number}.{block}", x, stride if block == 0 else 1, bn)
        features.append(x)
    return features


def _residual_block(form: Form, key: str, x: Feature, stride: int, bn: bool) -> Feature:
    projected = f"{key}.downsample.0.weight" in form.weights
    if not (bn or projected or form.weights[f"{key}.conv2.0.weight"].any()):
        return _still_block(form, key, x)
    out = form.conv(x, f"{key}.conv1.0", stride, f"{key}.conv1.1" if bn else None)
    out = form.relu(out, f"{key}.conv1/relu")
    out = form.conv(out, f"{key}.conv2.0", bn=f"{key}.conv2.1" if bn else None)
    out = form.gate(out, f"{key}.fg")
    if projected:
        x = form.conv(x, f"{key}.downsample.0", stride, f"{key}.downsample.1" if bn else None)
    return form.relu(form.add(out, x, f"{key}/add"), f"{key}/relu")


def _still_block(form: Form, key: str, x: Feature) -> Feature:
    """One whose second convolution has no weights (`flavr.idle`), without its convolutions.

    What is left of them is a bias, and of the gate, which sees that alone, a number per channel.
    """
    bias = form.weights.get(f"{key}.conv2.0.bias")
    if bias is None or not bias.any():
        return x  # which comes out of a ReLU, and would of another as it is
    logits = form.weights[f"{key}.fg.attn_layer.0.weight"].reshape(len(bias), -1).astype(np.float64) @ bias
    logits = logits + form.weights[f"{key}.fg.attn_layer.0.bias"]
    gate = (1 + np.tanh(logits / 2)) / 2  # the sigmoid, of any size
    shifted = form.shift(x, (gate * bias).astype(np.float32), f"{key}.shift", f"{key}/shift")
    return form.relu(shifted, f"{key}/relu")


def _decode(form: Form, config: FlavrConfig, features: list[Feature]) -> str:
    """The decoder's output, its time steps folded into channels."""
    x0, x1, x2, x3, x = features
    for number, skip in enumerate((x3, x2, x1, x0, None)):
        key = f"decoder.{number}"
        x = _decoder_stage(form, config, key, x, up=number in (1, 2, 4))
        x = form.leaky_relu(x, f"{key}/lrelu")
        if skip is not None and config.join == "concat":
            x = form.concat(x, skip, f"{key}/join")
        elif skip is not None and config.join == "add":
            x = form.add(x, skip, f"{key}/join")
    return form.fold(x, "fold")


def _decoder_stage(form: Form, config: FlavrConfig, key: str, x: Feature, *, up: bool) -> Feature:
    if not up:
        part, gate = f"{key}.conv", 1
        x = form.conv(x, f"{part}.0")
    elif config.upmode == "transpose":
        part, gate = f"{key}.upconv", 1
        x = form.conv_transpose(x, f"{part}.0")
    else:
        part, gate = f"{key}.upconv", 2
        # A 1x1x1 convolution and an interpolation (weights that sum to 1) commute: convolve a quarter
        # of the pixels, then upsample.
        x = form.upsample(form.conv(x, f"{part}.1"), f"{part}/upsample")
    return form.gate(x, f"{part}.{gate}", bn=f"{part}.{gate + 1}" if config.batchnorm else None)


def _output_convolution(form: Form, config: FlavrConfig, spec: ExportSpec, folded: str) -> str:
    """[B, 4C, H, W] -> [B, 3 n, H, W]: fuse the time steps, then the 7x7 convolution."""
    g = form.g
    weight, bias = form.weights["feature_fuse.conv.0.weight"], None
    if config.batchnorm:
        weight, bias = form.conv_parameters("feature_fuse.conv.0", "feature_fuse.conv.1")
    fused = g.op(
        "Conv",
        [folded, *form.stored("feature_fuse.conv.0", weight, bias)],
        "feature_fuse",
        kernel_shape=[1, 1],
    )
    fused = g.op("LeakyRelu", [fused], "feature_fuse/lrelu", alpha=LEAK)
    bordered = reflect_border(g, spec, fused, border=3)
    return form.last_conv(bordered, "outconv.1")
