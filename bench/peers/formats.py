"""Writes the tensors of a safetensors file in other formats, by their own libraries, and loads them again.

`write FOLDER MODEL` writes all of them and prints, as JSON, the file or folder of each; `load NAME PATH MODEL` loads
one and prints the largest relative error of a tensor. Runs in a virtual environment of its own, without bale.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

os.environ.setdefault("KERAS_BACKEND", "numpy")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Tensors = dict[str, np.ndarray[Any, Any]]
Writer = Callable[[Tensors, Path], None]
Reader = Callable[[Path], Mapping[str, Any]]


def write_npz(tensors: Tensors, path: Path) -> None:
    np.savez(path, **tensors)  # type: ignore[arg-type]


def read_npz(path: Path) -> Mapping[str, Any]:
    with np.load(path) as found:
        return dict(found)


def write_pickle(tensors: Tensors, path: Path) -> None:
    path.write_bytes(pickle.dumps(tensors, protocol=4))


def read_pickle(path: Path) -> Mapping[str, Any]:
    return dict(pickle.loads(path.read_bytes()))


def write_joblib(tensors: Tensors, path: Path) -> None:
    import joblib

    joblib.dump(tensors, path)


def read_joblib(path: Path) -> Mapping[str, Any]:
    import joblib

    return dict(joblib.load(path))


def write_torch(tensors: Tensors, path: Path) -> None:
    import torch

    torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, path)


def read_torch(path: Path) -> Mapping[str, Any]:
    import torch

    return {name: value.numpy() for name, value in torch.load(path).items()}


def write_torchscript(tensors: Tensors, path: Path) -> None:
    import torch

    class Holder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    module = Holder()
    for name, value in tensors.items():
        module.register_buffer(name.replace(".", "/"), torch.from_numpy(value))
    scripted: Any = torch.jit.script(module)
    scripted.save(str(path))


def read_torchscript(path: Path) -> Mapping[str, Any]:
    import torch

    jit: Any = torch.jit
    found = jit.load(str(path)).named_buffers()
    return {name.replace("/", "."): value.numpy() for name, value in found}


def write_dcp(tensors: Tensors, path: Path) -> None:
    import torch

    dcp: Any = import_module("torch.distributed.checkpoint")

    dcp.save({name: torch.from_numpy(value) for name, value in tensors.items()}, checkpoint_id=str(path))


def read_dcp(path: Path) -> Mapping[str, Any]:
    import torch

    dcp: Any = import_module("torch.distributed.checkpoint")

    metadata = dcp.FileSystemReader(str(path)).read_metadata().state_dict_metadata
    state = {name: torch.empty(each.size) for name, each in metadata.items()}
    dcp.load(state, checkpoint_id=str(path))
    return {name: value.numpy() for name, value in state.items()}


def write_hdf5(tensors: Tensors, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            file[name] = value


def read_hdf5(path: Path) -> Mapping[str, Any]:
    import h5py

    with h5py.File(path) as file:
        return {name: value[()] for name, value in file.items()}


def _keras_model(tensors: Tensors) -> Any:
    import keras

    class Holder(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, shapes: Any = None, **given: Any) -> None:
            super().__init__(**given)
            self.shapes = shapes

        def build(self, _: Any) -> None:
            self.held = [self.add_weight(shape=tuple(each), name=f"w{n}") for n, each in enumerate(self.shapes)]

        def call(self, x: Any) -> Any:
            return x

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "shapes": self.shapes}

    keras.saving.register_keras_serializable()(Holder)
    return keras.Sequential([keras.Input((2,)), Holder([list(value.shape) for value in tensors.values()])])


def _write_keras(tensors: Tensors, path: Path) -> None:
    model = _keras_model(tensors)
    model.set_weights(list(tensors.values()))
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


def _reader_of_keras(tensors: Tensors) -> Reader:
    def read(path: Path) -> Mapping[str, Any]:
        import keras

        model = _keras_model(tensors)
        if path.name.endswith(".weights.h5"):
            model.load_weights(path)
        else:
            model = keras.saving.load_model(path)
        return dict(zip(tensors, model.get_weights(), strict=True))

    return read


def write_tensorflow(tensors: Tensors, path: Path) -> None:
    import tensorflow as tf

    path.mkdir()
    variables = {name.replace("/", "_"): tf.Variable(value) for name, value in tensors.items()}
    tf.train.Checkpoint(held=variables).write(str(path / "model"))


def read_tensorflow(path: Path) -> Mapping[str, Any]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path / "model"))
    ending = "/.ATTRIBUTES/VARIABLE_VALUE"
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(ending)]
    return {_unescaped(name.removeprefix("held/").removesuffix(ending)): reader.get_tensor(name) for name in names}


def _unescaped(name: str) -> str:
    return ".".join(part.replace(".S", "/") for part in name.split(".."))


def write_onnx(tensors: Tensors, path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.helper.make_graph(
        [], "held", [], [], [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    )
    onnx.save(onnx.helper.make_model(graph), path)


def read_onnx(path: Path) -> Mapping[str, Any]:
    import onnx
    from onnx import numpy_helper

    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def _write_gguf(kind: str) -> Writer:
    def write(tensors: Tensors, path: Path) -> None:
        import gguf

        writer = gguf.GGUFWriter(path, "bert")
        type_ = getattr(gguf.GGMLQuantizationType, kind)
        for name, value in tensors.items():
            fits = value.ndim == 2 and value.shape[1] % 32 == 0
            of = type_ if fits or kind in ("F32", "F16", "BF16") else gguf.GGMLQuantizationType.F32
            writer.add_tensor(name, gguf.quants.quantize(value, of), raw_dtype=of)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write


def read_gguf(path: Path) -> Mapping[str, Any]:
    import gguf

    found = gguf.GGUFReader(path).tensors
    return {each.name: gguf.quants.dequantize(each.data, each.tensor_type).reshape(each.shape[::-1]) for each in found}


def write_flax(tensors: Tensors, path: Path) -> None:
    from flax.serialization import msgpack_serialize

    path.write_bytes(msgpack_serialize(dict(tensors)))


def read_flax(path: Path) -> Mapping[str, Any]:
    from flax.serialization import msgpack_restore

    return dict(msgpack_restore(path.read_bytes()))


def write_safetensors(tensors: Tensors, path: Path) -> None:
    save_file(tensors, path)


FORMATS: dict[str, tuple[str, str, Writer, Reader | None]] = {
    "safetensors": ("m.safetensors", "safetensors", write_safetensors, load_file),
    "NumPy": ("m.npz", "numpy", write_npz, read_npz),
    "pickle of arrays": ("m.pkl", "numpy", write_pickle, read_pickle),
    "joblib": ("m.joblib", "joblib", write_joblib, read_joblib),
    "PyTorch": ("m.pt", "torch", write_torch, read_torch),
    "TorchScript": ("script.pt", "torch", write_torchscript, read_torchscript),
    "PyTorch, distributed": ("dcp", "torch", write_dcp, read_dcp),
    "HDF5": ("m.h5", "h5py", write_hdf5, read_hdf5),
    "Keras, weights": ("m.weights.h5", "keras", _write_keras, None),
    "Keras": ("m.keras", "keras", _write_keras, None),
    "TensorFlow": ("tf", "tensorflow-cpu", write_tensorflow, read_tensorflow),
    "ONNX": ("m.onnx", "onnx", write_onnx, read_onnx),
    "GGUF, F32": ("f32.gguf", "gguf", _write_gguf("F32"), read_gguf),
    "GGUF, F16": ("f16.gguf", "gguf", _write_gguf("F16"), read_gguf),
    "GGUF, BF16": ("bf16.gguf", "gguf", _write_gguf("BF16"), read_gguf),
    "GGUF, Q8_0": ("q8_0.gguf", "gguf", _write_gguf("Q8_0"), read_gguf),
    "GGUF, Q4_0": ("q4_0.gguf", "gguf", _write_gguf("Q4_0"), read_gguf),
    "Flax": ("m.msgpack", "flax", write_flax, read_flax),
}
"""File, package, and how it is written and read, of each format; None for Keras, which has to know the shapes."""


def write(folder: Path, model: Path) -> dict[str, Any]:
    """Write all formats."""
    from importlib.metadata import version

    tensors, made = of_floats(model), {}
    for name, (file, package, writer, _) in FORMATS.items():
        try:
            writer(tensors, folder / file)
        except ImportError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            continue
        made[name] = {"file": file, "library": f"{package.removesuffix('-cpu')} {version(package)}"}
    return made


def load(name: str, path: Path, model: Path) -> dict[str, float]:
    """The largest relative error of a tensor that is loaded again."""
    tensors = of_floats(model)
    reader = FORMATS[name][3] or _reader_of_keras(tensors)
    found = reader(path)
    worst = 0.0
    for each, value in tensors.items():
        other = np.asarray(found[each])
        if other.dtype == ml_dtypes.bfloat16 or other.dtype != np.float32:
            other = other.astype(np.float32)
        norm = float(np.linalg.norm(value))
        worst = max(worst, float(np.linalg.norm(other.reshape(value.shape) - value)) / (norm or 1.0))
    return {"error": worst}


def of_floats(model: Path) -> Tensors:
    """The floating-point tensors of a model."""
    return {name: value for name, value in load_file(model).items() if value.dtype.kind == "f"}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder, model]:
            print(json.dumps(write(Path(folder), Path(model))))
        case ["load", name, path, model]:
            print(json.dumps(load(name, Path(path), Path(model))))
        case _:
            sys.exit(__doc__)
