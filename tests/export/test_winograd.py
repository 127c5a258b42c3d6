"""The winograd form: its short convolutions, both ways of writing a layer, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from flavr import Flavr, FlavrConfig
from flavr._cook_toom import POINT_ONE, short_convolution
from flavr_export import ExportSpec
from flavr_export._costs import Layer, Way, faster_way
from flavr_export._winograd import WinogradForm
from flavr_export.graph import build_graph
from flavr_export.targets import best_graph
from flavr_export.verify import pytorch_frames

MakeNetwork = Callable[[FlavrConfig], Flavr]
Pictures = list[NDArray[np.uint8]]
MakeFrames = Callable[..., Pictures]
PLAIN = FlavrConfig(width=8)
VARIED = FlavrConfig(width=4, factor=4, encoder_bias=True, batchnorm=True, join="add")
WAYS: tuple[Way, ...] = get_args(Way)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Every layer that can be is written in this way."""
    wanted: Way = request.param

    def chosen(_: WinogradForm, layer: Layer) -> Way:
        return wanted if layer.stride == 1 and layer.kernel in (2, 3) else "time"

    monkeypatch.setattr(WinogradForm, "_way", chosen)
    return wanted


# ---------------------------------------------------------------- short convolutions


@pytest.mark.parametrize(("m", "r"), [(4, 3), (3, 2), (2, 3), (1, 3), (2, 2), (5, 2)])
def test_a_short_convolution_is_exact(m: int, r: int) -> None:
    short, rng = short_convolution(m, r), np.random.default_rng(m)
    inputs, taps = rng.normal(size=m + r - 1), rng.normal(size=r)
    made = short.outputs @ ((short.taps @ taps) * (short.inputs @ inputs))
    np.testing.assert_allclose(made, np.correlate(inputs, taps, mode="valid"), rtol=0, atol=1e-12)
    assert short.products == m + r - 1


def test_a_bias_added_to_one_product_reaches_every_output() -> None:
    assert (short_convolution(4, 3).outputs[:, POINT_ONE] == 1).all()


def test_more_points_than_are_known_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^F\(6, 3\) needs 8 points; 6 are known$"):
        short_convolution(6, 3)


# ---------------------------------------------------------------- both ways of writing layers


def run(model: onnx.ModelProto, frames: Pictures) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    planar = [frame.transpose(0, 3, 1, 2).astype(np.float32) / 255 for frame in frames]
    return np.stack(session.run(None, {f"frame{t}": frame for t, frame in enumerate(planar)}))


@pytest.mark.parametrize("config", [PLAIN, VARIED], ids=["plain", "varied"])
@pytest.mark.parametrize(
    ("size", "fixed", "batch"),
    [((8, 8), False, 1), ((41, 57), False, 2), ((41, 57), True, 1), ((64, 96), True, 1)],
)
def test_a_network_in_one_way_gives_pytorchs_frames(
    way: Way,  # noqa: ARG001
    config: FlavrConfig,
    size: tuple[int, int],
    fixed: bool,
    batch: int,
    tiny_network: MakeNetwork,
    frames: MakeFrames,
) -> None:
    """Sizes that fill whole tiles and sizes that do not, of pictures, at a half, a quarter and an eighth."""
    network, pictures = tiny_network(config), frames(*size, batch)
    spec = ExportSpec(graph="winograd", io="float", size=size if fixed else None)
    made = run(build_graph(config, network.state_dict(), spec), pictures)
    np.testing.assert_allclose(made, pytorch_frames(network, pictures), rtol=0, atol=2e-5)


def test_both_ways_are_what_they_are_called(way: Way, tiny_network: MakeNetwork) -> None:
    model = build_graph(PLAIN, tiny_network(PLAIN).state_dict(), ExportSpec(graph="winograd"))
    products = {node.name: node for node in model.graph.node}["encoder.layer4.1.conv2.0"]
    assert products.op_type == {"time": "Conv", "space": "MatMul"}[way]


@pytest.mark.parametrize("fixed", [False, True])
def test_a_file_of_fixed_size_computes_no_shapes(fixed: bool, tiny_network: MakeNetwork) -> None:
    spec = ExportSpec(graph="winograd", io="float", size=(24, 40) if fixed else None)
    model = build_graph(PLAIN, tiny_network(PLAIN).state_dict(), spec)
    operators = {node.op_type for node in model.graph.node}
    assert bool({"Shape", "Div"} & operators) is not fixed


def test_its_weights_are_those_of_the_conv2d_form_byte_by_byte(
    variant: FlavrConfig, tiny_network: MakeNetwork
) -> None:
    """Else a file in this form could not take them from another file."""
    state = tiny_network(variant).state_dict()
    plain, quick = (
        {
            tensor.name: tensor.raw_data
            for tensor in build_graph(variant, state, ExportSpec(graph=graph)).graph.initializer
        }
        for graph in ("conv2d", "winograd")
    )
    weights = [name for name in plain if name.endswith(".weight")]
    assert len(weights) > 20
    assert [name for name in weights if plain[name] != quick[name]] == []


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("layer", "way"),
    [
        (Layer(512, 512, 3, 1), "space"),
        (Layer(128, 128, 3, 1), "space"),
        (Layer(512, 4 * 128, 2, 1), "space"),
        (Layer(16, 16, 3, 1), "time"),
        (Layer(32, 4 * 16, 2, 1), "time"),
        (Layer(256, 512, 3, 2), "time"),  # a stride of 2 has no tiles
        (Layer(512, 512, 7, 1), "time"),  # nor has this kernel
    ],
)
def test_the_measured_way_is_chosen(layer: Layer, way: Way) -> None:
    assert faster_way(layer) == way


@pytest.mark.parametrize(
    ("targets", "graph"),
    [([], "conv2d"), (["cpu"], "winograd"), (["cuda"], "conv2d"), (["cpu", "cuda"], "conv2d")],
)
def test_auto_is_conv2d_unless_every_provider_is_faster_with_another(targets: list[str], graph: str) -> None:
    assert best_graph(targets, "fp32") == graph
    assert best_graph(targets, "fp16") == "conv2d"
