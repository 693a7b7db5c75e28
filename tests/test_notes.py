"""Notes of many tensors in one line, in words that are right for one and for many."""

from __future__ import annotations

import re

import pytest

from bale.notes import KINDS, Note, Noted, enough, notes_of_files, summed_up

_AGREES = re.compile(r"\b(come|comes|are|is|have|has|do|does|was|were|their|its)\b")


def told(kind: str, count: int) -> str:
    tensors = [Noted(f"t{index}", 100 + index, index / 10, (Note(kind, f"said {index}"),)) for index in range(count)]
    (note,) = summed_up(tensors)
    assert note.kind == kind
    return note.text


def test_notes_on_one_file_and_on_several() -> None:
    note, other = Note("opaque", "coded"), Note("unnamed", "much")
    assert notes_of_files([("a", note), ("a", other)], False) == (note, other)
    assert notes_of_files([("b", note)], True) == (Note("opaque", "b: coded"),)
    assert notes_of_files([], True) == ()
    (many,) = notes_of_files([(f"f{number}", note) for number in range(9)], True)
    assert many == Note("opaque", "9 remarks on files, such as f0: coded")


def test_one_tensor_and_many() -> None:
    assert told("zeroed", 1) == "1 tensor with most values zeroed: t0 (said 0)"
    assert told("zeroed", 3) == "3 tensors with most values zeroed: the worst is t2 (said 2)"
    assert told("no-reference", 1) == "1 tensor stored without the base: t0 (said 0)"
    assert told("small", 1).startswith("left lossless: 1 tensor (100 B): ")


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.summary and not kind.left])
def test_no_verb_has_to_agree_with_the_number_of_tensors(kind: str) -> None:
    """But within a relative clause, whose subject is another one."""
    summary = re.sub(r"(?:whose|with) (\w+ )+", "", KINDS[kind].summary)
    assert not _AGREES.search(re.sub(r", which is no larger", "", summary))


def test_bytes_that_are_enough_are_rounded_up() -> None:
    assert [enough(count) for count in (3.2, 999.5, 1040, 5300, 999_950, 1_000_001)] == [
        "4 B",
        "1.0 kB",
        "1.1 kB",
        "5.3 kB",
        "1.0 MB",
        "1.1 MB",
    ]
