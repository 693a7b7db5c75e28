"""Pickle files by themselves: of Python, scikit-learn, joblib (not compressed), Paddle (``.pdparams``).

Protocols 2 to 5. Nothing is executed. Units are the numpy arrays whose values lie in one run, named by the keys,
indices and attributes that lead to them. Not followed: pickles of protocol 0 and 1, which begin with no mark; arrays
as texts (protocol 2 of Python 3); torch tensors; what lies behind the first pickle of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.pickle.arrays import OF_NUMPY, WRAPPERS, Arrays, is_array
from bale.io.sources.pickle.globals import global_notes
from bale.io.sources.pickle.joblib import JoblibArrays
from bale.io.sources.pickle.literals import find_literals
from bale.io.sources.pickle.reader import FrameCut, Global, PickleCut, PickleError, read_pickle
from bale.io.sources.pickle.undescribed import Reasons, Undescribed
from bale.io.sources.pickle.unnamed import of_pickle
from bale.io.sources.pickle.walk import named
from bale.io.sources.unnamed import Unnamed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.notes import Note

ROOT = "array"  # the name of an array that was pickled by itself
_WITHOUT = "without numpy arrays"
# From protocol 4 on the first opcode is a frame, of a length below 2^48.
_MARK = re.compile(rb"\x80(?:[\x02\x03]|[\x04\x05]\x95[\s\S]{6}\0\0)")


def begins_as_pickle(head: bytes) -> bool:
    """Whether a file begins with the mark of a protocol."""
    return _MARK.match(head) is not None


def read_pickle_file(path: Path, source: ByteSource) -> Checkpoint:
    """Read a pickle file; raise `Unsupported` for one without arrays, and for what merely begins as a pickle.

    `Malformed` is raised for one that is cut: in a frame, or anywhere once it has named what makes arrays.
    """
    of_joblib = JoblibArrays()
    try:
        parsed = read_pickle(source.read, 0, source.size, of_joblib)
    except PickleError as problem:
        if isinstance(problem, FrameCut) or (isinstance(problem, PickleCut) and _has_arrays(problem)):
            raise Malformed(f"its pickle goes on behind byte {source.size}, where the file ends") from None
        raise Unsupported(f"it begins as a pickle: {problem}", _told(problem.globals)) from None
    arrays, reasons = Arrays(), Reasons()
    for name, node in named(parsed.value, is_array, ROOT):
        try:
            arrays.add(name, node)
        except Undescribed as problem:
            reasons.add(str(problem), name)
    seen = _told((*parsed.globals, *of_joblib.globals))
    if not arrays.names:
        are_texts = any(each.is_array for each in find_literals(parsed.value, is_array))
        what = "whose arrays are texts, as protocol 2 has them" if are_texts else _WITHOUT
        raise Unsupported(f"a pickle {what}", seen)
    unnamed = [
        *of_pickle(parsed.value, is_array, parsed.end - arrays.nbytes, source.size, arrays.names),
        Unnamed(source.size - parsed.end, "bytes behind its pickle"),
    ]
    notes = (*seen, *reasons.notes(), *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "pickle", source.size, arrays.units(), notes)


def _has_arrays(problem: PickleCut) -> bool:
    return any(found.dotted in OF_NUMPY | WRAPPERS for found in problem.globals)


def _told(found: Iterable[Global]) -> tuple[Note, ...]:
    return tuple(global_notes(found, "pickle.load"))
