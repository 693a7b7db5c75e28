"""Files of joblib: pickles with the values of arrays between their opcodes.

A `NumpyArrayWrapper` says shape, order and dtype of an array. Behind the opcode that sets it up follow, since joblib
1.2, a byte that says how many bytes of padding come, and the padding; then the values, in the order and byte order
that it says. Arrays of objects are a pickle of their own in this place. Not followed: files that joblib has
compressed, and arrays in other files than the pickle, as joblib up to 0.9 wrote them.
"""

from __future__ import annotations

import math

from bale.io.sources.pickle.arrays import RANK_LIMIT, SIZE_LIMIT, WRAPPERS
from bale.io.sources.pickle.dtypes import dtype_of
from bale.io.sources.pickle.reader import Global, Long, Object, PickleError, PickleTooLarge, Read, read_pickle

OBJECTS_LIMIT = 10_000  # arrays of objects: each is read by itself, however short it is


class JoblibArrays:
    """Finds what lies behind the wrappers of arrays, and puts its place into them.

    Attributes
    ----------
    globals : list of Global
        What the pickles of arrays of objects refer to.
    """

    def __init__(self) -> None:
        self.globals: list[Global] = []
        self._of_objects = 0

    def __call__(self, node: Object, read: Read, at: int, end: int) -> int:
        """Bytes behind an object that is set up, where opcodes would be, that are none."""
        if node.callee not in WRAPPERS or not isinstance(node.state, Object):
            return 0
        dtype, shape = dtype_of(node.state.get("dtype")), node.state.get("shape")
        if dtype is None or not isinstance(shape, tuple) or len(shape) > RANK_LIMIT:
            raise PickleError("an array of joblib whose length is not known")
        if dtype.has_object:
            self._of_objects += 1
            if self._of_objects > OBJECTS_LIMIT:
                raise PickleTooLarge(f"the pickle has more than {OBJECTS_LIMIT} arrays of objects")
            inner = read_pickle(read, at, end)  # where no wrapper means anything: it goes no deeper
            self.globals += inner.globals
            return inner.end - at
        if dtype.width is None or not all(type(size) is int and 0 <= size < SIZE_LIMIT for size in shape):
            raise PickleError("an array of joblib whose length is not known")
        padding = 0
        if node.state.get("numpy_array_alignment_bytes") is not None:
            padding = 1 + int.from_bytes(read(min(1, end - at), at), "little")
        nbytes = math.prod(shape) * dtype.width
        node.elements = [Long(nbytes, at + padding)]
        return padding + nbytes
