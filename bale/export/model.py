"""What is exported: the archives of a model, its tensors as they are stored, and the files beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bale.compressors.base import Values
from bale.compressors.chunks import flat_spec
from bale.compressors.pipeline import Pipeline
from bale.engine.reading.archives import Archives
from bale.engine.reading.listing import complete_record, weight_archives_of
from bale.engine.run import Run
from bale.errors import ArchiveError
from bale.io.archive.archive import is_archive
from bale.io.folders.indexes import is_index_of_weights
from bale.io.folders.marked import CONFIG, CONFIG_LIMIT, unmarked
from bale.io.folders.record import COPY, is_stored_folder
from bale.io.storage.files import check_readable, read_text
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Stored:
    """A tensor of an archive.

    Attributes
    ----------
    pipeline : Pipeline or None
        What it was coded with; None where it is a part of what was coded, or lies in memory in another order.
    exact : bool
        Whether it is the source's, bit for bit.
    """

    name: str
    spec: TensorSpec
    pipeline: Pipeline | None
    exact: bool
    archives: Archives
    read: Callable[[], Mapping[str, Values]]

    @property
    def parts(self) -> Mapping[str, Values]:
        """The parts that it is stored in: codes, scales, factors; remembered until those of another are asked for."""
        return self.read()

    def blocks(self) -> Iterator[Array]:
        """Its decoded bytes, in arrays that are bounded."""
        return self.archives.blocks(self.name)

    def part(self, name: str) -> Values:
        """One of its parts by itself, flat."""
        blocks = list(self.archives.part_blocks(self.name, name))
        array = np.concatenate([block.array for block in blocks])
        return Values(flat_spec(blocks[0].spec, array.size), array)

    def part_blocks(self, name: str) -> Iterator[Array]:
        """The same in arrays that are bounded."""
        return (block.array for block in self.archives.part_blocks(self.name, name))


class Model:
    """The archives of one model, open; to be used as a context manager.

    Parameters
    ----------
    path : Path
        An archive, or a folder of them.

    Attributes
    ----------
    paths : tuple of Path
        The archives of its weights.
    config : dict or None
        Content of the folder's ``config.json``.
    beside : tuple of str
        Files of the folder that are neither weights nor an index of shards, nor the config.

    Raises
    ------
    SourceError
        When it is not there, or may not be read.
    ArchiveError
        When it is neither, or is damaged.
    """

    def __init__(self, path: Path, run: Run) -> None:
        check_readable(path)
        self.path, self.folder = path, path if is_stored_folder(path) else None
        self.config: dict[str, Any] | None = None
        self.beside: tuple[str, ...] = ()
        if self.folder is None:
            if not is_archive(path):
                raise ArchiveError(f"{path} is no archive, and no folder of archives", "compress it first")
            paths = [path]
        else:
            paths = weight_archives_of(path)
            copies = {name: entry for name, entry in complete_record(path).entries.items() if entry.kind == COPY}
            self.beside = tuple(name for name in copies if name != CONFIG and not is_index_of_weights(name))
            if CONFIG in copies:
                self.config = _read_config(path / CONFIG, copies[CONFIG].is_marked)
        self.paths = tuple(paths)
        with ExitStack() as opened:  # closes what is open where one cannot be opened
            self._by_file = {
                _weights_name(path, self.folder): opened.enter_context(Archives([path], run=run)) for path in paths
            }
            self._resources = opened.pop_all()

    @cached_property
    def files(self) -> Mapping[str, tuple[Stored, ...]]:
        """The tensors of each weights file, by the name that it has as a safetensors file."""

        @lru_cache(1)  # of the last tensor alone: those of all can be larger than memory
        def read(file: str, name: str) -> Mapping[str, Values]:
            found: Mapping[str, Values] = self._by_file[file].part_values(name)
            return found

        return {
            file: tuple(
                Stored(
                    each,
                    archives.spec(each),
                    archives.pipeline(each),
                    archives.is_exact(each),
                    archives,
                    partial(read, file, each),
                )
                for each in archives
            )
            for file, archives in self._by_file.items()
        }

    @property
    def tensors(self) -> Iterator[Stored]:
        """All tensors."""
        return (tensor for tensors in self.files.values() for tensor in tensors)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


def _weights_name(path: Path, folder: Path | None) -> str:
    """The name of a safetensors file with the weights of an archive: ``pytorch_model.bin`` becomes ``model``'s."""
    name = path.name if folder is None else str(path.relative_to(folder))
    stem = name.removesuffix(".bale").replace("pytorch_model", "model")
    return str(Path(stem).with_suffix(".safetensors"))


def _read_config(path: Path, is_marked: bool) -> dict[str, Any]:
    text = read_text(path, CONFIG_LIMIT, ArchiveError)
    try:
        found = json.loads(unmarked(text) if is_marked else text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ArchiveError(f"{path} is no JSON object", "mend the config of the model, and compress it again")
    return found
