"""A small file of each format that bale reads, for the contract that every reader keeps."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
import torch

from tests.io.sources.hdf5_files import File, hdf5
from tests.io.sources.tensorflow_files import entry, header, table

WEIGHTS = np.random.default_rng(0).standard_normal((24, 64)).astype(np.float32)
BIAS = np.linspace(-1, 1, 24, dtype=np.float32)
ARRAYS = {"weight": WEIGHTS, "bias": BIAS}


@dataclass(frozen=True)
class Sample:
    """A file with the tensors `weight` (24 x 64) and `bias` (24), F32, whatever their names are there.

    Attributes
    ----------
    name : str
        Name of the file.
    kind : str
        What its reader calls it.
    names : tuple of str
        The names of its tensors.
    make : callable
        Its bytes.
    beside : callable
        Files that lie beside it, and that it is read by.
    is_lossy : bool
        Whether loss is possible.
    """

    name: str
    kind: str
    names: tuple[str, ...]
    make: Callable[[], bytes]
    beside: Callable[[], dict[str, bytes]] = dict
    is_lossy: bool = True


def _safetensors() -> bytes:
    return safetensors.numpy.save({"bias": BIAS, "weight": WEIGHTS}, {"format": "np"})


def _torch(legacy: bool = False) -> bytes:
    file = io.BytesIO()
    state = {"weight": torch.from_numpy(WEIGHTS), "bias": torch.from_numpy(BIAS)}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _dense() -> bytes:
    file = File(new=True)
    return file.finish(file.dense_group({"weight": file.dataset(WEIGHTS), "bias": file.dataset(BIAS)}))


def keras() -> bytes:
    """A Keras file, as far as bale reads it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        written.writestr("config.json", "{}")
        written.writestr("model.weights.h5", hdf5({"weight": WEIGHTS, "bias": BIAS}))
    return file.getvalue()


def _tensorflow() -> tuple[bytes, bytes]:
    """A data file and its index; a text at the end of it is no tensor."""
    data = WEIGHTS.tobytes() + BIAS.tobytes()
    places = {b"bias": (BIAS, WEIGHTS.nbytes), b"weight": (WEIGHTS, 0)}
    pairs = [(name, entry(1, value.shape, at, value.nbytes)) for name, (value, at) in places.items()]
    return data + bytes(300), table([header(), *pairs, (b"~text", entry(7, (), len(data), 300))])


def gguf(tensors: Mapping[str, tuple[int, tuple[int, ...], bytes]], keys: bytes = b"", count: int = 0) -> bytes:
    """A GGUF file of tensors: the number of their type, their shape and their bytes; and of some coded keys."""
    directory, data = b"", b""
    for name, (kind, shape, content) in tensors.items():
        data += bytes(-len(data) % 32)
        sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        directory += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape)) + sizes
        directory += struct.pack("<IQ", kind, len(data))
        data += content
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + keys + directory
    return head + bytes(-len(head) % 32) + data


def _gguf() -> bytes:
    text = b"\x14\0\0\0\0\0\0\0general.architecture" + struct.pack("<IQ", 8, 4) + b"bert"
    words = b"\x05\0\0\0\0\0\0\0words" + struct.pack("<IIQQ", 9, 8, 2, 3) + b"one" + struct.pack("<Q", 3) + b"two"
    tensors = {"weight": (0, WEIGHTS.shape, WEIGHTS.tobytes()), "bias": (0, BIAS.shape, BIAS.tobytes())}
    return gguf(tensors, text + words, 2)


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer: a varint, or bytes."""
    if isinstance(value, int):
        return varint(8 * number) + varint(value)
    return varint(8 * number + 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number in bytes of seven bits."""
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def onnx_tensor(name: str, kind: int, dims: tuple[int, ...], *fields: tuple[int, int | bytes]) -> bytes:
    """A tensor of an ONNX model, with the fields that hold its numbers."""
    sizes = b"".join(field(1, size) for size in dims)
    return sizes + field(2, kind) + b"".join(field(*each) for each in fields) + field(8, name.encode())


def onnx(graph: bytes) -> bytes:
    """An ONNX model with this graph, as its library writes it."""
    return field(1, 8) + field(2, b"pytorch") + field(3, b"2.1") + field(7, graph) + field(8, field(2, 17))


def _onnx() -> bytes:
    node = field(1, b"x") + field(1, b"weight") + field(2, b"y") + field(4, b"MatMul")
    weight = onnx_tensor("weight", 1, WEIGHTS.shape, (9, WEIGHTS.tobytes()))
    bias = onnx_tensor("bias", 1, BIAS.shape, (4, BIAS.tobytes()))
    return onnx(field(1, node) + field(2, b"graph") + field(5, weight) + field(5, bias) + field(12, field(1, b"y")))


def onnx_external(name: str, kind: int, dims: tuple[int, ...], **where: str | int) -> bytes:
    """A tensor of an ONNX model whose numbers are in another file."""
    entries = [(13, field(1, key.encode()) + field(2, str(value).encode())) for key, value in where.items()]
    return onnx_tensor(name, kind, dims, *entries, (14, 1))


def _onnx_with_data(location: str) -> bytes:
    weight = onnx_external("weight", 1, WEIGHTS.shape, location=location, offset=0, length=WEIGHTS.nbytes)
    bias = onnx_external("bias", 1, BIAS.shape, location=location, offset=8192)
    return onnx(field(2, b"graph") + field(5, weight) + field(5, bias))


def openvino(layers: Mapping[str, str], edges: tuple[tuple[int, int], ...] = ()) -> bytes:
    """An OpenVINO model: layers by their names, and which pass their values to which, by their numbers."""
    rows = "".join(f'<layer id="{n}" name="{name}" {rest}</layer>' for n, (name, rest) in enumerate(layers.items()))
    lines = "".join(f'<edge from-layer="{one}" from-port="0" to-layer="{two}" to-port="0" />' for one, two in edges)
    net = f'<net name="m" version="11"><layers>{rows}</layers><edges>{lines}</edges></net>'
    return f'<?xml version="1.0"?>\n{net}'.encode()


def constant(shape: tuple[int, ...], offset: int, size: int, kind: str = "f32") -> str:
    """What stands in the element of a constant, behind its name."""
    sizes = ", ".join(map(str, shape))
    data = f'<data element_type="{kind}" shape="{sizes}" offset="{offset}" size="{size}" />'
    return f'type="Const" version="opset1">{data}'


def _openvino() -> bytes:
    rows = {"weight": constant(WEIGHTS.shape, 0, WEIGHTS.nbytes), "bias": constant(BIAS.shape, 8192, BIAS.nbytes)}
    return openvino(rows)


Field = bytes | str | list[int] | list["Table"] | memoryview
Table = dict[int, Field]


def flatbuffer(root: Table) -> bytes:
    """A FlatBuffer of tables by the numbers of their fields: bytes lie in the table, all else is referred to."""
    out = bytearray(b"\0\0\0\0TFL3")
    _refer(out, 0, _put_table(out, root))
    return bytes(out)


def _refer(out: bytearray, at: int, target: int) -> None:
    out[at : at + 4] = struct.pack("<I", target - at)


def _put_table(out: bytearray, fields: Table) -> int:
    count = max(fields, default=-1) + 1
    places = {number: 4 + 8 * place for place, number in enumerate(fields)}
    out += bytes(-(len(out) + 4 + 2 * count) % 4)
    out += struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 8 * len(fields), *(places.get(n, 0) for n in range(count)))
    table = len(out)
    out += struct.pack("<i", 4 + 2 * count) + bytes(8 * len(fields))
    for number, value in fields.items():
        at = table + places[number]
        if isinstance(value, bytes):
            out[at : at + len(value)] = value
        else:
            _refer(out, at, _put_vector(out, value))
    return table


def _put_vector(out: bytearray, value: str | list[int] | list[Table] | memoryview) -> int:
    content = value.encode() if isinstance(value, str) else value
    out += bytes(-(len(out) + 4) % (16 if isinstance(value, memoryview) else 4))
    start = len(out)
    out += struct.pack("<I", len(content))
    if not isinstance(content, list):
        out += content
        return start
    numbers = [each for each in content if isinstance(each, int)]
    out += struct.pack(f"<{len(numbers)}I", *numbers)
    tables = [each for each in content if isinstance(each, dict)]
    out += bytes(4 * len(tables))
    for index, each in enumerate(tables):
        _refer(out, start + 4 + 4 * index, _put_table(out, each))
    return start


def tflite(tensors: list[tuple[str, int, tuple[int, ...], int]], buffers: list[bytes]) -> bytes:
    """A TensorFlow Lite model: name, type, shape and buffer of each tensor, the buffers from number 1 on."""
    rows: list[Table] = [
        {0: list(shape), 1: bytes([kind]), 2: struct.pack("<I", number), 3: name}
        for name, kind, shape, number in tensors
    ]
    filled: list[Table] = [{}, *({0: memoryview(data)} for data in buffers)]
    return flatbuffer({0: struct.pack("<I", 3), 2: [{0: rows}], 4: filled})


def _tflite() -> bytes:
    rows = [("x", 0, (1, 64), 0), ("weight", 0, WEIGHTS.shape, 1), ("bias", 0, BIAS.shape, 2)]
    return tflite(rows, [WEIGHTS.tobytes(), BIAS.tobytes()])


def npy(values: np.ndarray) -> bytes:
    """A file of NumPy."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _script() -> bytes:
    """A file of torch with what makes it one of TorchScript."""
    with zipfile.ZipFile(io.BytesIO(_torch())) as file:
        content = {name: file.read(name) for name in file.namelist()}
    return zipped({**content, "archive/constants.pkl": b"\x80\x02).", "archive/code/__torch__.py": b"class M: pass"})


def _distcp() -> bytes:
    """Items behind one another, without the file that has their names."""
    items = []
    for name, values in (("weight", WEIGHTS), ("bias", BIAS)):
        file = io.BytesIO()
        torch.save({name: torch.from_numpy(values)}, file)
        items.append(file.getvalue())
    return b"".join(items)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=WEIGHTS, bias=BIAS)
    return file.getvalue()


def zipped(content: dict[str, bytes]) -> bytes:
    """A ZIP file that stores these members as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def _export() -> bytes:
    config = {
        name: {
            "path_name": f"weight_{number}",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": {
                "dtype": 7,
                "sizes": [{"as_int": size} for size in values.shape],
                "strides": [{"as_int": stride // 4} for stride in values.strides],
                "storage_offset": {"as_int": 0},
                "layout": 7,
            },
        }
        for number, (name, values) in enumerate({"weight": WEIGHTS, "bias": BIAS}.items())
    }
    weights = {"m/data/weights/weight_0": WEIGHTS.tobytes(), "m/data/weights/weight_1": BIAS.tobytes()}
    described = json.dumps({"config": config}).encode()
    return zipped({**weights, "m/data/weights/model_weights_config.json": described, "m/byteorder": b"little"})


def tarred(content: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=form) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5  # type: ignore[assignment]  # a fraction takes a pax header
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _torch_arrays() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": WEIGHTS, "bias": torch.from_numpy(BIAS)}, file, pickle_protocol=4)
    return file.getvalue()


def joblib_pickle(arrays: dict[str, np.ndarray], alignment: int | None = 16) -> bytes:
    """A file as `joblib.dump` writes one of a dict of arrays, in opcodes of protocol 3."""
    data = b"\x80\x03}("
    for name, array in arrays.items():
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        state = {"subclass": np.ndarray, "shape": array.shape, "order": order, "dtype": array.dtype}
        if alignment is not None:
            state["numpy_array_alignment_bytes"] = alignment
        data += pickle.dumps(name, 3)[2:-1] + b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
        data += pickle.dumps(state, 3)[2:-1] + b"b"
        if array.dtype.hasobject:
            data += pickle.dumps(array, 5)
        else:
            if alignment is not None:
                padding = alignment - (len(data) + 1) % alignment
                data += bytes([padding]) + b"\xff" * padding
            data += array.tobytes(order)
    return data + b"u."


def flax_array(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    """The extension that `flax.serialization` writes of an array."""
    sizes = b"".join(b"\xce" + size.to_bytes(4) for size in shape)
    inner = b"\x93" + bytes([0x90 + len(shape)]) + sizes + bytes([0xA0 + len(dtype)]) + dtype.encode()
    inner += b"\xc6" + len(data).to_bytes(4) + data
    return b"\xc9" + len(inner).to_bytes(4) + b"\x01" + inner


def flax_map(entries: dict[str, bytes]) -> bytes:
    """A map of keys to what is msgpack already."""
    return bytes([0x80 + len(entries)]) + b"".join(
        bytes([0xA0 + len(key)]) + key.encode() + value for key, value in entries.items()
    )


def _flax() -> bytes:
    arrays = {name: flax_array(array.shape, "float32", array.tobytes()) for name, array in ARRAYS.items()}
    return flax_map({"params": flax_map(arrays)})


SAMPLES = {
    "safetensors": Sample("m.safetensors", "safetensors", ("bias", "weight"), _safetensors),
    "gguf": Sample("m.gguf", "gguf", ("weight", "bias"), _gguf),
    "onnx": Sample("m.onnx", "onnx", ("weight", "bias"), _onnx),
    "onnx-data": Sample(
        "m.onnx_data",
        "onnx-data",
        ("weight", "bias"),
        lambda: WEIGHTS.tobytes().ljust(8192, b"\0") + BIAS.tobytes(),
        lambda: {f"{before}m.onnx": _onnx_with_data(f"{before}m.onnx_data") for before in ("", "back-")},
    ),
    "openvino": Sample(
        "m.bin",
        "openvino",
        ("weight", "bias"),
        lambda: WEIGHTS.tobytes().ljust(8192, b"\0") + BIAS.tobytes(),
        lambda: dict.fromkeys(("m.xml", "back-m.xml"), _openvino()),
    ),
    "tflite": Sample("m.tflite", "tflite", ("weight", "bias"), _tflite),
    "torch": Sample("m.pt", "torch", ("weight", "bias"), _torch),
    "torch-legacy": Sample("m.pt", "torch-legacy", ("weight", "bias"), lambda: _torch(legacy=True)),
    "hdf5": Sample("m.h5", "hdf5", ("weight", "bias"), lambda: hdf5({"weight": WEIGHTS, "bias": BIAS})),
    "hdf5-new": Sample("m.h5", "hdf5", ("weight", "bias"), lambda: hdf5({"weight": WEIGHTS, "bias": BIAS}, new=True)),
    "hdf5-dense": Sample("m.h5", "hdf5", ("weight", "bias"), _dense),
    "keras": Sample("m.keras", "keras", ("weight", "bias"), keras),
    "tensorflow": Sample(
        "m.data-00000-of-00001",
        "tensorflow",
        ("weight", "bias"),
        lambda: _tensorflow()[0],
        lambda: dict.fromkeys(("m.index", "back-m.index"), _tensorflow()[1]),
        is_lossy=False,
    ),
    "torchscript": Sample("m.pt", "torchscript", ("weight", "bias"), _script),
    "distcp": Sample("__0_0.distcp", "distcp", ("weight", "bias"), _distcp),
    "torch-export": Sample("m.pt2", "torch-export", ("weight", "bias"), _export),
    "tar": Sample("m.nemo", "tar", ("weight", "bias"), lambda: tarred({"./m.ckpt": _torch(), "./m.yaml": b"a: 1"})),
    "npz": Sample("m.npz", "npz", ("weight", "bias"), _npz),
    "zip": Sample("m.zip", "zip", ("weight", "bias"), lambda: zipped({"model.pt": _torch(), "notes.txt": b"hello"})),
    "torch-arrays": Sample("m.pt", "torch", ("weight", "bias"), _torch_arrays),
    "pickle": Sample("m.pkl", "pickle", ("weight", "bias"), lambda: pickle.dumps(ARRAYS, 4)),
    "flax": Sample("m.msgpack", "flax", ("params.weight", "params.bias"), _flax),
    "joblib": Sample("m.joblib", "pickle", ("weight", "bias"), lambda: joblib_pickle(ARRAYS)),
}
