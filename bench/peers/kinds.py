"""Writes the tensors of a safetensors file as every kind of file that is known to the bench, each in a folder.

`kinds.py FOLDER MODEL`: those of `bench.peers.formats`, and others that are less usual, or hard to read. Prints, as
JSON, the names of the folders. Runs in a virtual environment of its own, without bale.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save, save_file

from bench.peers.formats import FORMATS, Tensors, Writer, of_floats


def write_npy(tensors: Tensors, path: Path) -> None:
    path.mkdir()
    for name, value in tensors.items():
        np.save(path / f"{name}.npy", value)


def write_compressed_npz(tensors: Tensors, path: Path) -> None:
    np.savez_compressed(path, **tensors)  # type: ignore[arg-type]


def write_old_pickle(tensors: Tensors, path: Path) -> None:
    path.write_bytes(pickle.dumps(tensors, protocol=2))


def write_compressed_joblib(tensors: Tensors, path: Path) -> None:
    import joblib

    joblib.dump(tensors, path, compress=3)


def _of_torch(tensors: Tensors) -> Any:
    import torch

    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def write_old_torch(tensors: Tensors, path: Path) -> None:
    import torch

    torch.save(_of_torch(tensors), path, _use_new_zipfile_serialization=False)


def write_arrays_in_torch(tensors: Tensors, path: Path) -> None:
    import torch

    torch.save(tensors, path, pickle_protocol=4)


def write_training_state(tensors: Tensors, path: Path) -> None:
    import torch

    held = {name: torch.nn.Parameter(value) for name, value in _of_torch(tensors).items()}
    optimizer = torch.optim.Adam(held.values())
    generator = torch.Generator().manual_seed(0)
    for each in held.values():
        each.grad = torch.randn(each.shape, generator=generator) * 1e-3
    optimizer.step()
    torch.save({"model": held, "optimizer": optimizer.state_dict()}, path)


def write_export(tensors: Tensors, path: Path) -> None:
    import torch

    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, value in enumerate(_of_torch(tensors).values()):
                self.register_parameter(f"w{number}", torch.nn.Parameter(value))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    exported: Any = import_module("torch.export")
    exported.save(exported.export(Holder(), (torch.ones(2),)), path)


def write_nemo(tensors: Tensors, path: Path) -> None:
    import torch

    content = io.BytesIO()
    torch.save(_of_torch(tensors), content)
    with tarfile.open(path, "w") as archive:
        for name, data in (("./model_config.yaml", b"name: held\n"), ("./model_weights.ckpt", content.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_zip(tensors: Tensors, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.safetensors", save(tensors))


def write_gzip(tensors: Tensors, path: Path) -> None:
    path.write_bytes(gzip.compress(save(tensors), 6))


def write_shards(tensors: Tensors, path: Path) -> None:
    path.mkdir()
    names, of = list(tensors), dict[str, str]()
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path / file)
        of |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": of}))


def _write_hdf5(**options: Any) -> Writer:
    def write(tensors: Tensors, path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            for name, value in tensors.items():
                file.create_dataset(name, data=value, **options)

    return write


def write_saved_model(tensors: Tensors, path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.held = [tf.Variable(value) for value in tensors.values()]
    tf.saved_model.save(module, str(path))


def write_tflite(tensors: Tensors, path: Path) -> None:
    import tensorflow as tf

    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([])])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return [x * value for value in tensors.values()]

    module = Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    path.write_bytes(converter.convert())


def _write_onnx(**options: Any) -> Writer:
    def write(tensors: Tensors, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        path.mkdir()
        held = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        model = onnx.helper.make_model(onnx.helper.make_graph([], "held", [], [], held))
        onnx.save(model, path / "model.onnx", save_as_external_data=True, **options)

    return write


def write_raw(tensors: Tensors, path: Path) -> None:
    path.write_bytes(b"".join(value.tobytes() for value in tensors.values()))


def write_bfloat16(tensors: Tensors, path: Path) -> None:
    import ml_dtypes

    path.write_bytes(b"".join(value.astype(ml_dtypes.bfloat16).tobytes() for value in tensors.values()))


OTHERS: dict[str, tuple[str, Writer]] = {
    "safetensors, shards": ("shards", write_shards),
    "NumPy, a file for each array": ("arrays", write_npy),
    "NumPy, compressed": ("packed.npz", write_compressed_npz),
    "pickle of arrays, protocol 2": ("old.pkl", write_old_pickle),
    "joblib, compressed": ("packed.joblib", write_compressed_joblib),
    "PyTorch, old form": ("old.pt", write_old_torch),
    "PyTorch, arrays of NumPy": ("arrays.pt", write_arrays_in_torch),
    "PyTorch, with Adam": ("training.ckpt", write_training_state),
    "torch.export": ("m.pt2", write_export),
    "tar of PyTorch": ("m.nemo", write_nemo),
    "ZIP of safetensors": ("m.zip", write_zip),
    "safetensors, gzip": ("m.safetensors.gz", write_gzip),
    "HDF5, in chunks": ("chunks.h5", _write_hdf5(chunks=True)),
    "HDF5, compressed": ("packed.h5", _write_hdf5(compression="gzip")),
    "TensorFlow SavedModel": ("saved", write_saved_model),
    "TensorFlow Lite": ("m.tflite", write_tflite),
    "ONNX, external data": ("onnx", _write_onnx(location="model.onnx_data")),
    "ONNX, a file for each tensor": ("each", _write_onnx(all_tensors_to_one_file=False)),
    "bytes of float32": ("m.raw", write_raw),
    "bytes of bfloat16": ("bf16.raw", write_bfloat16),
}


def main(folder: Path, model: Path) -> None:
    """Write all of them, each in a folder that has its number."""
    tensors, made = of_floats(model), {}
    usual = {name: (file, writer) for name, (file, _, writer, _) in FORMATS.items()}
    for number, (name, (file, writer)) in enumerate((usual | OTHERS).items(), 1):
        (folder / f"{number:02}").mkdir()
        writer(tensors, folder / f"{number:02}" / file)
        made[name] = f"{number:02}"
    print(json.dumps(made))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
