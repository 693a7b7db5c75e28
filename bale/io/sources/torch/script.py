"""TorchScript (`torch.jit.save`): a torch file with code beside it, whose constants have a pickle of their own.

Read are the modules' parameters, buffers and attributes by their names, and the constants of the code. Kept as they
are: code and debug records, which are compressed, inputs of traces, and the bytecode of the mobile form. Not followed
is the form before torch 1.4 (model.json).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.sources.pickle.globals import global_notes
from bale.io.sources.pickle.reader import Global
from bale.io.sources.storages import Names
from bale.io.sources.torch.pickled import RECORDS, Pickled, read_pickled
from bale.io.sources.unnamed import unnamed_notes
from bale.io.sources.zip_file import ZipArchive
from bale.io.storage.bytes import ByteSource

_CONSTANTS = "constants"


def is_script(names: Collection[str], prefix: str) -> bool:
    """Whether a torch file has code, or constants of code."""
    return any(name == f"{prefix}/{_CONSTANTS}.pkl" or name.startswith(f"{prefix}/code/") for name in names)


def read_script(path: Path, source: ByteSource, archive: ZipArchive, prefix: str) -> Checkpoint:
    """Read a file by `torch.jit.save`, as `read_torch_zip` does."""
    pickles = [read_pickled(archive, prefix, "data", source.size)]
    if f"{prefix}/{_CONSTANTS}.pkl" in archive.members:
        constants = read_pickled(archive, prefix, _CONSTANTS, source.size)
        pickles.append(_renamed(constants, pickles[0]))
    known = {f"{prefix}/{record}" for record in RECORDS}
    known |= {name for each in pickles for name in (each.pickle, *each.payloads)}
    others = [member for name, member in archive.members.items() if name not in known]
    unnamed = [*(kind for each in pickles for kind in each.unnamed), *archive.unnamed(others)]
    found = [name for each in pickles for name in each.globals if not _is_own(name)]
    notes = [*global_notes(found), *(note for each in pickles for note in each.notes)]
    units = sorted((unit for each in pickles for unit in each.units()), key=attrgetter("start", "end"))
    checksums = tuple(checksum for each in pickles for checksum in each.checksums(archive))
    return Checkpoint(
        path, "torchscript", source.size, tuple(units), (*notes, *unnamed_notes(source.size, unnamed)), checksums
    )


def _renamed(constants: Pickled, others: Pickled) -> Pickled:
    """Constants have numbers alone."""
    names = Names()
    for tensor in others.tensors:
        names.unique(tensor.name)
    tensors = (each._replace(name=names.unique(f"{_CONSTANTS}.{each.name}")) for each in constants.tensors)
    return replace(constants, tensors=tuple(tensors))


def _is_own(name: Global) -> bool:
    """Whether a name is that of a class in the file's own code, or of what only TorchScript's own reader runs."""
    return f"{name.module}.".startswith("__torch__.") or name.module == "torch.jit._pickle"
