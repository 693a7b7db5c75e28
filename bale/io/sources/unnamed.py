"""A note on bytes of a file that lie in no tensor, where they are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bale.notes import Note, size

_SHARE, _LEAST = 0.01, 1 << 13  # of the file, and bytes, up to which nobody needs to know
_SHOWN = 3  # names, and reasons


@dataclass(frozen=True)
class Unnamed:
    """Bytes of one kind that lie in no tensor, and words for what they are, beyond the ordinary parts of a format."""

    nbytes: int
    what: str


def is_much(nbytes: int, whole: int) -> bool:
    """Whether so many bytes of a file of `whole` are worth a word."""
    return nbytes > max(_LEAST, _SHARE * whole)


def unnamed_notes(whole: int, found: Iterable[Unnamed]) -> tuple[Note, ...]:
    """One note on what there is much of in a file of `whole` bytes, or none."""
    kinds = sorted((each for each in found if each.nbytes > 0), key=lambda each: -each.nbytes)
    total = sum(each.nbytes for each in kinds)
    if not is_much(total, whole):
        return ()
    shown = [each for each in kinds if 20 * each.nbytes >= total or is_much(each.nbytes, whole)][:_SHOWN]
    if len(shown) == 1:
        text = f"{size(shown[0].nbytes)} of {size(whole)} are {shown[0].what}"
    else:
        each_of = ", ".join(f"{size(each.nbytes)} are {each.what}" for each in shown)
        text = f"{size(total)} of {size(whole)} lie in no tensor: {each_of}"
    return (Note("unnamed", f"{text}: kept exactly, no pipeline reaches them"),)


def listed(names: Sequence[str]) -> str:
    """The first of some printable names in brackets, for the end of a phrase; nothing where there are none."""
    known = list(dict.fromkeys(filter(None, names)))
    if not known:
        return ""
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f" ({', '.join(known[:_SHOWN])}{more})"
