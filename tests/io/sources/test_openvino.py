"""Weights of OpenVINO models: constants by the XML beside them, and what of XML is refused."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.open import open_checkpoint
from bale.io.sources.openvino import data as openvino_data
from bale.io.sources.openvino import network
from bale.io.sources.openvino.network import read_network
from bale.spec import TensorSpec
from tests.io.reading import named_values, opened
from tests.io.sources.samples import constant, openvino
from tests.making import weights

W = weights(64, 80)
WHOLE = constant(W.shape, 0, W.nbytes)


def beside(folder: Path, model: bytes, data: bytes = W.tobytes(), name: str = "m.bin") -> Checkpoint:
    folder.mkdir(exist_ok=True)
    (folder / "m.xml").write_bytes(model)
    (folder / name).write_bytes(data)
    return opened(folder / name)


def reason(found: Checkpoint) -> str:
    assert found.kind == "opaque"
    return found.notes[0].text


def test_constants_by_the_names_of_their_layers(tmp_path: Path) -> None:
    found = beside(tmp_path, openvino({"x": 'type="Parameter"><data shape="64" />', "w": WHOLE}))
    assert (found.kind, found.notes) == ("openvino", ())
    assert (named_values(found)["w"] == W).all()


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("f16", TensorSpec("F16", (3, 4))),
        ("bf16", TensorSpec("BF16", (3, 4))),
        ("f64", TensorSpec("F64", (3, 4))),
        ("i64", TensorSpec("I64", (3, 4))),
        ("u8", TensorSpec("U8", (3, 4))),
        ("boolean", TensorSpec("BOOL", (3, 4))),
        ("f8e4m3", TensorSpec("F8_E4M3", (3, 4))),
        ("i4", TensorSpec("U8", (6,))),
        ("u1", TensorSpec("U8", (2,))),
    ],
)
def test_types(tmp_path: Path, kind: str, spec: TensorSpec) -> None:
    found = beside(tmp_path, openvino({"w": constant((3, 4), 0, spec.nbytes, kind)}), bytes(spec.nbytes))
    assert [unit.spec for unit in found.units] == [spec]


def test_equal_constants_are_one(tmp_path: Path) -> None:
    (unit,) = beside(tmp_path, openvino({"a": WHOLE, "b": WHOLE, "flat": constant((W.size,), 0, W.nbytes)})).units
    assert [(view.name, view.spec.shape) for view in unit.views] == [
        ("a", W.shape),
        ("b", W.shape),
        ("flat", (W.size,)),
    ]
    assert unit.exact is None
    (unit,) = beside(tmp_path, openvino({"a": WHOLE, "b": constant(W.shape, 0, W.nbytes, "i32")})).units
    assert unit.exact == "tensors of different dtypes share it"


def test_codes_and_their_scales_are_exact(tmp_path: Path) -> None:
    layers = {
        "codes": constant((8,), 0, 8, "u8"),
        "convert": 'type="Convert">',
        "zero": constant((8,), 8, 32),
        "subtract": 'type="Subtract">',
        "scale": constant((8,), 40, 32),
        "reshape": 'type="Reshape">',
        "multiply": 'type="Multiply">',
        "matmul": 'type="MatMul">',
        "w": constant((8,), 72, 32),
        "limit": constant((8,), 104, 32),
        "fake": 'type="FakeQuantize">',
        "half": constant((8,), 136, 16, "f16"),
        "decompress": 'type="Convert">',
    }
    edges = (
        (0, 1),
        (1, 3),
        (2, 3),
        (3, 6),
        (4, 5),
        (5, 6),
        (6, 7),
        (8, 7),
        (9, 10),
        (7, 10),
        (11, 12),
        (12, 7),
        (99, 3),
    )
    found = beside(tmp_path, openvino(layers, (*edges, (99, 3))), bytes(152))
    assert {unit.label: unit.exact for unit in found.units} == {
        "codes": "quantized already: u8",
        "zero": "quantized already: u8",
        "scale": "quantized already: u8",
        "limit": "quantized already: FakeQuantize",
        "w": None,
        "half": None,
    }


def test_bodies_have_numbers_of_their_own(tmp_path: Path) -> None:
    body = openvino({"inner": constant((4,), W.nbytes, 16), "fake": 'type="FakeQuantize">'}, ((0, 1),)).decode()
    body = body.partition(">\n")[2].replace("net", "body")
    found = beside(tmp_path, openvino({"w": WHOLE, "loop": f'type="Loop">{body}'}), W.tobytes() + bytes(16))
    assert {unit.label: unit.exact for unit in found.units} == {"w": None, "inner": "quantized already: FakeQuantize"}


@pytest.mark.parametrize(
    "row",
    [
        constant(W.shape, 0, W.nbytes - 4),
        constant(W.shape, -4, W.nbytes),
        constant((1,) * 65, 0, 4),
        constant((-1,), 0, 4),
        constant((4,), 0, 16, "string"),
        'type="Const"><data />',
        'type="Const">',
    ],
)
def test_constants_that_make_no_sense(tmp_path: Path, row: str) -> None:
    assert "no constants in them" in reason(beside(tmp_path, openvino({"w": row})))


def test_weights_that_were_cut(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"m\.xml puts 'w' at bytes 0 to 20480, and it has 20479"):
        beside(tmp_path, openvino({"w": WHOLE}), W.tobytes()[:-1])


def test_what_is_no_model_beside_it(tmp_path: Path) -> None:
    assert "no reader" in reason(beside(tmp_path, b"<net name='m'><layers/></net>", name="other.bin"))
    assert "no reader" in reason(beside(tmp_path, b"<html></html>"))
    assert "cannot be read" in reason(beside(tmp_path, b"<net name='m'><layers>"))


def test_nothing_that_xml_has_beyond_elements() -> None:
    bomb = b'<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net name="&b;"></net>'
    for text, words in (
        (bomb, "document type"),
        (b'<!DOCTYPE net SYSTEM "file:///etc/passwd"><net />', "document type"),
        (b"<net>&a;</net>", "undefined entity"),
        (b"<a>" * 101 + b"</a>" * 101, "more than 100 elements"),
        (b'<?xml version="1.0" encoding="x-none"?><net />', "encoding"),
    ):
        with pytest.raises(Unsupported, match=words):
            read_network(text)


def test_a_very_long_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_data, "_LIMIT", 600)
    model = openvino({"w": WHOLE}) + b" " * 600
    assert "with an .xml of" in reason(beside(tmp_path, model))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<layers/>" * 200_000, "more than 100000 elements and attributes"),
        (b"<layers><layer/></layers>" * 20_000, "more than 4096 graphs"),
        (b"<layers><layer/></layers><edges>" + b"<edge/>" * 200_000, "elements and attributes"),
        (b"".join(b"<a %s/>" % b" ".join(b'a%x="1"' % at for at in range(500)) for _ in range(500)), "and attributes"),
        (b"<a " + b" ".join(b'a%x="1"' % at for at in range(1_000_000)) + b"/>", "a tag of more than 4194304 bytes"),
    ],
)
def test_what_would_take_much_memory_and_time(text: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_MOST", 100_000)
    text = b'<net name="m">' + text + b"</net>"
    tracemalloc.start()
    try:
        with pytest.raises(Unsupported, match=words):
            read_network(text)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_graphs_without_layers_are_none() -> None:
    assert len(read_network(b"<net>" + b"<layers/>" * 9 + b"<layers><layer/></layers></net>")) == 1


def test_models_that_are_cut_or_changed(tmp_path: Path) -> None:
    whole = openvino({"w": WHOLE, "fake": 'type="FakeQuantize">'}, ((0, 1),))
    variants = [whole[:at] for at in range(0, len(whole), 3)]
    for pattern in (b"\xff", b"\0", b'"', b"<", b"9999999999"):
        variants += [whole[:at] + pattern + whole[at + len(pattern) :] for at in range(0, len(whole), 3)]
    for model in variants:
        with suppress(SourceError):
            beside(tmp_path, model)


def test_many_constants(tmp_path: Path) -> None:
    rows = {f"layer{number}": constant((2,), 8 * number, 8) for number in range(20_000)}
    edges = tuple((number, number + 1) for number in range(20_000))
    (tmp_path / "m.xml").write_bytes(openvino(rows, edges))
    (tmp_path / "m.bin").write_bytes(np.zeros(40_000, "<f4").tobytes())
    assert len(open_checkpoint(tmp_path / "m.bin").units) == 20_000
