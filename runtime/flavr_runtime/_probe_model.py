"""The smallest graph that proves an execution provider works: one 2-D convolution with its weight inside.

A convolution is what FLAVR is made of, and the first thing to fail where a vendor library is missing. The
runtime ships without the `onnx` package, so the file is embedded. It was written with onnx 1.23 by:

    weight = numpy_helper.from_array(np.array([[[[1, 2], [3, 4]]]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    base64.b64encode(model.SerializeToString())

Opset 13 and IR version 7 are the oldest this project cares for, so that every build can read it.
"""

import base64

MODEL = base64.b64decode(
    "CAc6bwoPCgF4CgF3EgF5IgRDb252EgFnKh8IAQgBCAIIAhABQgF3ShAAAIA/AAAAQAAAQEAAAIBAWhsKAXgSFgoUCAESEAoCCAEK"
    "AggBCgIIAwoCCANiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQDQ=="
)

# Small integers are exact in every float type a provider may compute in, so any difference is a fault.
INPUT = [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]]]
EXPECTED = [[[[27.0, 37.0], [57.0, 67.0]]]]
