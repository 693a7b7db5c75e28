"""Names of files of weights: their format, the set that a shard belongs to, the model that they are of."""

from __future__ import annotations

import re
from dataclasses import dataclass

NEEDED_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".distcp")
"""Of weights without which a folder is not whole; files of other formats lie beside them as exports of the model."""

_EXPORTS = (
    ".pt2",
    ".nemo",
    ".npy",
    ".npz",
    ".gguf",
    ".h5",
    ".keras",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".tflite",
    ".pkl",
    ".pdparams",
    ".joblib",
    ".msgpack",
)

SUFFIXES = NEEDED_SUFFIXES + _EXPORTS
"""Of weights that bale reads: such a file is never meant to be empty."""

OTHER_SUFFIXES = (".distcp", ".npz", ".ot")
"""Of weights that only other programs read, or also in forms that only they do."""

TENSORFLOW_DATA = re.compile(r"(?P<stem>.+)\.data-(?P<shard>\d{5})-of-(?P<shards>\d{5})", re.DOTALL)
"""Names of the data files of TensorFlow checkpoints."""

_NUMBERED = re.compile(r"(?P<before>.*?)-(?P<number>\d+)-of-(?P<count>\d+)(?P<after>[^/]*)")
_FRAMEWORK = re.compile(r"(?:pytorch|tf|flax|rust|jax)_")
_AS_PUBLISHED = {"consolidated": "model"}


@dataclass(frozen=True)
class Numbered:
    """A name like ``model-00001-of-00003.safetensors``; `of` stands for all of its set."""

    of: str
    number: int
    count: int


def numbered(name: str) -> Numbered | None:
    """The number of a shard, and the set that it is one of; None for any other name."""
    found = _NUMBERED.fullmatch(name)
    if found is None or max(len(found["number"]), len(found["count"])) > 9:
        return None
    of = f"{found['before']}-*-of-{found['count']}{found['after']}"
    return Numbered(of, int(found["number"]), int(found["count"]))


def set_of(name: str) -> str:
    """A name for all shards that a file belongs to; its own where it is not numbered."""
    shard = numbered(name)
    return name if shard is None else shard.of


def same_model(name: str) -> str:
    """A key that is equal for files that hold one model in several formats: ``model.safetensors``, ``tf_model.h5``.

    Frameworks, numbers of shards, and variants (``model.fp16.safetensors``) do not count; folders do.
    """
    folder, _, own = set_of(name).rpartition("/")
    stem = _FRAMEWORK.sub("", own.partition(".")[0].partition("-*-of-")[0].lower())
    return f"{folder}/{_AS_PUBLISHED.get(stem, stem)}"


def is_weights(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a file has a suffix of weights."""
    return name.lower().endswith(suffixes)
