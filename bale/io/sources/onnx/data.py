"""External data of ONNX models as sources: files without structure, whose tensors a model beside them places.

A model may name one file for all of its tensors (``model.onnx_data``), or one for each, of any name; several models may
share one. What it names is within its own folder: a file in a folder below is not followed, nor are models that are
not called ``.onnx``. A tensor whose SHA-1 a model keeps (`checksum`) is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.described import Place, State, described, descriptions, state_of
from bale.io.sources.onnx.model import Model
from bale.io.sources.onnx.tensors import is_beside
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.notes import Note

CHECKED = "the ONNX model beside it keeps its SHA-1"
_SUFFIX = ".onnx"


def is_onnx_data(path: Path) -> bool:
    """Whether a model beside a file puts tensors in it; nothing in the file says what it is."""
    return bool(_placed(path))


def read_onnx_data(path: Path, source: ByteSource) -> Checkpoint:
    """The tensors that all models beside it put in a file; raise `Malformed` where it is too short for each of them."""
    found, size = _placed(path), source.size
    if not found:
        raise Unsupported("data of an ONNX model that is gone")
    fitting = {model: places for model, places in found.items() if all(place.end <= size for place in places)}
    notes = [Note("external", f"{model} is not for it, by its size") for model in found if model not in fitting]
    models = fitting or found
    by = " and ".join(models) if len(models) < 3 else f"{next(iter(models))} and {len(models) - 1} more"
    places = [place for each in models.values() for place in each]
    return described(path, "onnx-data", size, places, by, notes)


def _placed(path: Path) -> dict[str, Sequence[Place]]:
    """The tensors that each model beside a file puts in it, by the model's name."""
    found = {model.name: _read(model).get(path.name, ()) for model in descriptions(path.parent, _SUFFIX)}
    return {model: places for model, places in found.items() if places}


def _read(model: Path) -> Mapping[str, Sequence[Place]]:
    """Tensors by the files that a model puts them in; none where it cannot be read."""
    try:
        return _external(model, state_of(model))
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _external(path: Path, state: State) -> Mapping[str, Sequence[Place]]:
    """The same of a model that is in this state: it is read once for all of its data files."""
    try:
        with reading(path) as source:
            model = Model(source)
    except (SourceError, Malformed, Unsupported):
        return {}
    names = {location: _name(location) for location in {tensor.location for tensor in model.tensors}}
    found: dict[str, list[Place]] = {}
    for tensor in model.tensors:
        name = names[tensor.location]
        place = tensor.elsewhere() if name else None
        if name and place is not None:
            exact = model.reason(tensor) or (CHECKED if "checksum" in tensor.external else None)
            found.setdefault(name, []).append(Place(tensor.name, *place, exact))
    return found


def _name(location: str) -> str | None:
    """The name of a file that is beside its model, whose path may be ``./m.onnx_data``."""
    return PurePosixPath(location).name if is_beside(location) else None
