"""Files of statistics of a model's inputs: their layout is described in docs/statistics.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bale.errors import SourceError
from bale.io.faults import Malformed, Unsupported
from bale.io.safetensors import PREAMBLE, header_block, header_text, padded, read_layout
from bale.io.storage.bytes import ByteSource
from bale.io.storage.commit import Target
from bale.io.storage.files import reading
from bale.spec import Array, TensorSpec

KEY, VERSION = "bale.stats", "1"
COVARIANCE = ":covariance"
"""Suffix of the name of a tensor for the mean products of its inputs."""

_HINT = "collect statistics with `bale stats`"


@dataclass(frozen=True)
class Entry:
    """A tensor of the file, and the offset of its first byte."""

    name: str
    spec: TensorSpec
    start: int


@dataclass(frozen=True)
class StatisticsFile:
    """An open file of statistics; of its values nothing has been read.

    Attributes
    ----------
    means, covariances : mapping of str to Entry
        By the name of the tensor that they are statistics of.
    """

    path: Path
    source: ByteSource
    sha256: str
    means: Mapping[str, Entry]
    covariances: Mapping[str, Entry]

    def read(self, entry: Entry) -> Array:
        """Elements in their storage bits; may be called by several threads."""
        buffer = np.empty(entry.spec.nbytes, np.uint8)
        self.source.read_into(buffer, entry.start)
        return buffer.view(entry.spec.storage).reshape(entry.spec.shape)


@contextmanager
def open_statistics_file(path: Path) -> Iterator[StatisticsFile]:
    """Read the header of a file of statistics and take its digest; `SourceError` when it is none."""
    with reading(path, SourceError) as source:
        try:
            layout = read_layout(source)
        except (Malformed, Unsupported) as problem:
            raise SourceError(f"the statistics {path} are no sound safetensors file: {problem}", _HINT) from None
        version = layout.metadata.get(KEY, VERSION)
        if version != VERSION:
            raise SourceError(f"the statistics {path} are of version {version}, this bale reads {VERSION}", _HINT)
        if "bale" in layout.metadata:
            raise SourceError(f"the statistics {path} are a bale", "`bale decompress` gives them back")
        means, covariances = {}, {}
        for name, spec, start in layout.tensors:
            if name.endswith(COVARIANCE):
                covariances[name.removesuffix(COVARIANCE)] = Entry(name, spec, start)
            else:
                means[name] = Entry(name, spec, start)
        yield StatisticsFile(path, source, source.sha256(), means, covariances)


def write_statistics(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str], force: bool) -> None:
    """Write float32 arrays, under their names in the file, whole or not at all."""
    entries = [(name, TensorSpec("F32", array.shape)) for name, array in tensors.items()]
    text = header_text({KEY: VERSION, **metadata}, entries)
    room = padded(len(text))
    with Target(path, None, force) as target:
        target.write(header_block(text, room), 0)
        at = PREAMBLE + room
        for array in tensors.values():
            target.write(np.ascontiguousarray(array, "<f4"), at)
            at += array.nbytes
        target.commit()
