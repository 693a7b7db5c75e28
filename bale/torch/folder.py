"""The archives of a model's weights in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bale.engine.reading.archives import Archives
from bale.engine.reading.listing import complete_record
from bale.errors import SourceError
from bale.io.folders.record import is_stored_folder

_NAMES = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them
_INDEX = ".index.json"


def open_archives(folder: Path) -> Archives:
    """Open the archives of a model: those that transformers would load, were they decompressed, or the only one.

    Others, in folders within or of further formats, are left alone.

    Raises
    ------
    SourceError
        Where there is none, a shard is missing, or it cannot be told which of several are the model's.
    """
    if is_stored_folder(folder):
        complete_record(folder)  # which raises where the folder was interrupted
    found = {_source_name(path): path for path in sorted([*folder.glob("*.bale"), *folder.glob("*.bale.safetensors")])}
    if not found:
        raise SourceError(f"{folder} has no archive", "compress the model's folder with bale")
    return Archives(_chosen(folder, found), folder=folder)


def _source_name(path: Path) -> str:
    return path.name.removesuffix(".bale").replace(".bale.safetensors", ".safetensors")


def _chosen(folder: Path, found: Mapping[str, Path]) -> list[Path]:
    for name in _NAMES:
        if name in found:
            return [found[name]]
        index = folder / f"{name}{_INDEX}"
        if index.is_file():
            shards = _shards(index)
            missing = sorted(shard for shard in shards if shard not in found)
            if missing:
                raise SourceError(f"{index} names {missing[0]!r}, of which no archive is there", "fetch it")
            return [found[shard] for shard in sorted(shards)]
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise SourceError(f"{folder} has several archives, and none is called {_NAMES[0]}: {names}", "leave one there")
    return list(found.values())


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise SourceError(f"{index} is no index of shards ({type(problem).__name__})", "fetch it again") from None
