"""Bytes of a pickle that lie in no tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bale.io.faults import printable
from bale.io.sources.pickle.literals import find_literals
from bale.io.sources.pickle.walk import Test
from bale.io.sources.unnamed import Unnamed, is_much, listed

_ENTRY = 1 << 10  # bytes that a pickle ordinarily takes for a tensor, beside its name


def of_pickle(root: object, is_leaf: Test, nbytes: int, whole: int, names: Collection[str]) -> Iterator[Unnamed]:
    """Bytes of a pickle beyond what it takes for the tensors of these names, in a file of `whole` bytes.

    `nbytes` is its length without the values of its leaves.
    """
    objects = nbytes - sum(_ENTRY + len(name) for name in names)
    if not is_much(nbytes, whole):
        return
    literals = find_literals(root, is_leaf)
    for is_array, what in ((True, "arrays in its pickle"), (False, "texts in its pickle")):
        of_kind = [each for each in literals if each.is_array == is_array]
        total = sum(each.nbytes for each in of_kind)
        objects -= total
        yield Unnamed(total, f"{what}{listed([printable(each.name) for each in of_kind])}")
    yield Unnamed(objects, "Python objects in its pickle")
