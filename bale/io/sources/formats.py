"""The formats of sources: what files of each begin with, and what reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.sources.flax import begins_as_flax, read_flax
from bale.io.sources.gguf.read import begins_as_gguf, read_gguf
from bale.io.sources.hdf5.walk import begins_as_hdf5, read_hdf5
from bale.io.sources.nested import Inside
from bale.io.sources.npy import begins_as_npy, read_npy
from bale.io.sources.onnx.data import is_onnx_data, read_onnx_data
from bale.io.sources.onnx.head import begins_as_onnx
from bale.io.sources.onnx.read import read_onnx
from bale.io.sources.openvino.data import is_openvino_data, read_openvino_data
from bale.io.sources.pickle.file import begins_as_pickle, read_pickle_file
from bale.io.sources.safetensors import read_safetensors
from bale.io.sources.tar import begins_as_tar, read_tar
from bale.io.sources.tensorflow.data import is_tensorflow_data, read_tensorflow
from bale.io.sources.tflite.read import begins_as_tflite, read_tflite
from bale.io.sources.torch.legacy import is_torch_legacy, read_torch_legacy
from bale.io.sources.zip import read_zip
from bale.io.sources.zip_file import begins_as_zip
from bale.io.storage.bytes import ByteSource
from bale.io.weight_names import SUFFIXES, is_weights

HEAD = 1024
"""Bytes that distinguish the formats."""

_OWN_SUFFIXES = tuple({*SUFFIXES} - {".bin", ".onnx_data", ".onnx.data"})

# A length below 2^48, then an object that ends or whose first key begins: too unlikely to be anything else, so if such
# a file cannot be read it is broken. What merely has a brace at byte 8 may be anything.
_SAFETENSORS = re.compile(rb"[\s\S]{6}\0\0[ \t\r\n]*\{\s*[\"}]")


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes
    ----------
    looks : str
        What a file of it looks like, for messages.
    begins : callable
        Whether a file begins so, by up to `HEAD` bytes.
    read : callable or None
        Its reader; None for one that is known by name alone. It raises `Malformed` for a file that is broken for
        certain, and `Unsupported` for one that is coded as opaque bytes then.
    known : callable or None
        Whether a file is of it by its name, or by what lies beside it, where nothing in the file says what it is.
    """

    looks: str
    begins: Callable[[bytes], bool]
    read: Callable[[Path, ByteSource], Checkpoint] | None = None
    known: Callable[[Path], bool] | None = None


def reader_of(formats: tuple[Format, ...]) -> Inside:
    """Reads a file within another, if it is of one of these formats."""

    def inside(path: Path, source: ByteSource) -> Checkpoint | None:
        found = _first(formats, source.read(min(source.size, HEAD), 0), None)
        return None if found is None or found.read is None else found.read(path, source)

    return inside


def _with_containers(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    """These, and files that store such files."""
    inside = reader_of(formats)
    return (
        Format("a ZIP file, as torch and NumPy write", begins_as_zip, partial(read_zip, inside=inside)),
        Format("a tar file", begins_as_tar, partial(read_tar, inside=inside)),
        *formats,
    )


def _first(formats: tuple[Format, ...], head: bytes, path: Path | None) -> Format | None:
    return next((each for each in formats if each.begins(head) and _is_known(each, path)), None)


def _is_known(of: Format, path: Path | None) -> bool:
    return of.known is None or (path is not None and of.known(path))


def _by_others(known: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """The same of files whose suffix says nothing else, so that few are looked for."""
    return lambda path: not is_weights(path.name, _OWN_SUFFIXES) and known(path)


SAFETENSORS = Format("a safetensors file", lambda head: _SAFETENSORS.match(head) is not None, read_safetensors)
_PLAIN = (
    SAFETENSORS,
    Format("an HDF5 file", begins_as_hdf5, read_hdf5),
    Format("a GGUF file", begins_as_gguf, read_gguf),
    Format("a TensorFlow Lite model", begins_as_tflite, read_tflite),
    Format("an array of NumPy", begins_as_npy, read_npy),
    Format("a torch file of the old format", is_torch_legacy, read_torch_legacy),
    Format("an ONNX model", begins_as_onnx, read_onnx),
    Format("a pickle", begins_as_pickle, read_pickle_file),
    Format("msgpack, as Flax writes", begins_as_flax, read_flax),
)
FORMATS = (
    Format("the data of a TensorFlow checkpoint", lambda head: True, read_tensorflow, is_tensorflow_data),
    Format("the data of an ONNX model", lambda head: True, read_onnx_data, _by_others(is_onnx_data)),
    Format("the weights of an OpenVINO model", lambda head: True, read_openvino_data, is_openvino_data),
    *_with_containers(_with_containers(_PLAIN)),
)
"""In this order: the first that a file begins as is its format. Files are read in files in files, and no deeper."""


def format_of(head: bytes, path: Path | None = None) -> Format | None:
    """The format of a file that begins with these bytes and lies there; None for none that bale knows."""
    return _first(FORMATS, head, path)
