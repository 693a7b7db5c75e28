"""Models exported by libraries, where these are installed (`pip install onnx onnxruntime openvino`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.io.sources.open import open_checkpoint
from bale.spec import Array

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries

rng = np.random.default_rng(0)
FIRST, SECOND = (rng.standard_normal(shape).astype(np.float32) for shape in ((128, 256), (256, 64)))
CODES, SCALE = (SECOND * 20).clip(-127, 127).astype(np.int8), np.full(64, 0.05, np.float32)
INPUTS = np.ones((2, 128), np.float32)


def came_back(source: Path, tmp_path: Path) -> Path:
    """The folder that comes back after loss; without loss it is the same."""
    bale.compress(source, tmp_path / "exact")
    bale.decompress(tmp_path / "exact", tmp_path / "same")
    for path in source.iterdir():
        assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes()
    bale.compress(source, tmp_path / "small", pipeline="int8")
    bale.decompress(tmp_path / "small", tmp_path / "back")
    return tmp_path / "back"


def check_near(found: Array, expected: Array) -> None:
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def onnx_model(kind: str) -> Any:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    held, nodes = [numpy_helper.from_array(FIRST, "first")], [helper.make_node("MatMul", ["x", "first"], ["h"])]
    if kind == "quantized":
        held += [numpy_helper.from_array(CODES, "second"), numpy_helper.from_array(SCALE, "scale")]
        nodes.append(helper.make_node("DequantizeLinear", ["second", "scale"], ["w"], axis=1))
    elif kind == "constant":
        nodes.append(helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(SECOND, "second")))
    else:
        held.append(numpy_helper.from_array(SECOND, "w"))
    nodes.append(helper.make_node("MatMul", ["h", "w"], ["y"]))
    ends = [helper.make_tensor_value_info(name, 1, [None, size]) for name, size in (("x", 128), ("y", 64))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("plain", {"location": "model.onnx_data"}),
        ("plain", {"location": "weights.bin"}),
        ("plain", {"all_tensors_to_one_file": False}),
        ("constant", {"location": "model.onnx.data", "convert_attribute": True}),
        ("quantized", {"location": "model.data"}),
    ],
)
def test_external_data_of_onnx(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(onnx_model(kind), source / "model.onnx", save_as_external_data=True, size_threshold=100, **options)
    units = [unit for path in source.iterdir() if path.suffix != ".onnx" for unit in open_checkpoint(path).units]
    exact = {view.name for unit in units for view in unit.views if unit.exact}
    assert exact == ({"second", "scale"} if kind == "quantized" else set())
    back = came_back(source, tmp_path)
    outputs = [runtime.InferenceSession(each / "model.onnx").run(None, {"x": INPUTS})[0] for each in (back, source)]
    check_near(*outputs)


@pytest.mark.parametrize("halves", [False, True])
def test_openvino(tmp_path: Path, halves: bool) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    x = ops.parameter([-1, 128], np.float32, name="x")
    codes = ops.convert(ops.constant(CODES, name="codes"), "f32")
    second = ops.multiply(codes, ops.constant(SCALE[None], name="scale"))
    h = ops.matmul(x, ops.constant(FIRST, name="first"), False, False)
    h = ops.add(h, ops.matmul(x, ops.constant(FIRST, name="again"), False, False))
    limits = [ops.constant(np.float32([value]), name=name) for name, value in (("low", -90), ("high", 90))]
    h = ops.fake_quantize(h, *limits, *limits, 65536)
    model = openvino.Model([ops.matmul(h, second, False, False)], [x], "m")
    (tmp_path / "source").mkdir()
    openvino.save_model(model, tmp_path / "source" / "model.xml", compress_to_fp16=halves)
    units = open_checkpoint(tmp_path / "source" / "model.bin").units
    reasons = {view.name.removesuffix("_compressed"): unit.exact for unit in units for view in unit.views}
    assert {name for name, reason in reasons.items() if reason} == {"codes", "scale", "low", "high"}
    assert len({unit.start for unit in units for view in unit.views if view.name[:5] in ("first", "again")}) == 1
    back = came_back(tmp_path / "source", tmp_path)
    core = openvino.Core()
    compiled = [core.compile_model(each / "model.xml", "CPU") for each in (back, tmp_path / "source")]
    check_near(*(next(iter(each(INPUTS).values())) for each in compiled))
