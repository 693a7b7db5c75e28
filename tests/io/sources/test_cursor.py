"""A place in a source that moves on."""

import pytest

from bale.io.faults import Malformed
from bale.io.sources.cursor import TEXT_LIMIT, Cursor
from tests.io.in_memory import InMemory


def test_numbers_texts_and_gaps() -> None:
    assert Cursor(InMemory(b"\xac\x02")).varint() == 300
    assert Cursor(InMemory(b"\xff" * 9 + b"\1")).varint() == 2**64 - 1
    cursor = Cursor(InMemory(b"\1\0\0\0\2\0abc----\xff"))
    assert cursor.numbers("IH") == (1, 2)
    assert cursor.text(3) == b"abc"
    cursor.skip(4)
    assert (cursor.at, cursor.left) == (13, 1)
    assert cursor.number("b") == -1
    assert cursor.left == 0
    assert Cursor(InMemory(b"\0\0\0\1"), ">").number("I") == 1


def test_it_reads_on_behind_what_it_holds() -> None:
    data = bytes(range(256)) * 5000
    cursor = Cursor(InMemory(data))
    for at in (0, 262_140, 262_150, 1_000_000):
        cursor.skip(at - cursor.at)
        assert cursor.text(10) == data[at : at + 10]


@pytest.mark.parametrize("end", [None, 10])
def test_it_never_passes_the_end(end: int | None) -> None:
    cursor = Cursor(InMemory(bytes(99 if end else 10)), at=3, end=end)
    for move, size in ((cursor.numbers, "Q"), (cursor.text, 8), (cursor.skip, 1 << 70)):
        with pytest.raises(Malformed, match="it ends at byte 10"):
            move(size)  # type: ignore[operator]
    assert cursor.text(7) == bytes(7)


def test_long_texts_are_not_read() -> None:
    with pytest.raises(Malformed, match="a name of"):
        Cursor(InMemory(b"")).text(TEXT_LIMIT + 1)


def test_it_goes_back_to_what_it_no_longer_holds() -> None:
    data = bytes(range(1, 100))
    cursor = Cursor(InMemory(data), window=8)
    cursor.skip(20)
    for at in (20, 19, 30, 3):
        cursor.at = at
        assert cursor.varint() == data[at]
        cursor.at = at - 1
        assert cursor.text(2) == data[at - 1 : at + 1]
