from dataclasses import replace
from pathlib import Path

import pytest

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.order import Ranges, in_order
from bale.spec import TensorSpec, Unit, View


def unit(name: str, start: int, size: int) -> Unit:
    spec = TensorSpec("U8", (size,))
    return Unit(start, spec, (View(name, spec),))


def places(*units: Unit, size: int = 100) -> list[tuple[str, int]]:
    found = in_order(Checkpoint(Path("m"), "x", size, units))
    return [(each.label, each.start) for each in found.units]


def test_what_is_in_order_stays_the_same() -> None:
    checkpoint = Checkpoint(Path("m"), "x", 100, (unit("a", 0, 10), unit("empty", 10, 0), unit("b", 10, 90)))
    assert in_order(checkpoint) is checkpoint
    assert in_order(replace(checkpoint, units=checkpoint.units[::-1])) == checkpoint


def test_units_of_no_bytes_lie_beside_others_and_in_the_file() -> None:
    assert places(unit("a", 10, 50), unit("empty", 30, 0)) == [("empty", 10), ("a", 10)]
    assert places(unit("a", 10, 50), unit("empty", 60, 0)) == [("a", 10), ("empty", 60)]
    assert places(unit("empty", 1 << 40, 0)) == [("empty", 100)]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(Unsupported, match="'a' and 'b' overlap"):
        places(unit("b", 50, 10), unit("a", 45, 10))
    with pytest.raises(Malformed, match="'a' reaches to byte 101 of 100"):
        places(unit("a", 50, 51))


def test_units_do_not_lie_over_what_they_were_found_by() -> None:
    units = (unit("b", 50, 10), unit("empty", 5, 0), unit("a", 20, 30))
    apart, empty = Ranges(), Ranges()
    for start, end in ((0, 20), (60, 100), (60, 1 << 50), (30, 30)):
        apart.add(start, end)
    for ranges in (apart, empty):
        ranges.refuse_within(units)
    apart.refuse_within(())
    for place, name in (((0, 21), "a"), ((49, 50), "a"), ((49, 51), "b"), ((59, 60), "b"), ((0, 100), "b")):
        ranges = Ranges()
        ranges.add(0, 10)
        ranges.add(*place)
        with pytest.raises(Unsupported, match=f"'{name}' lies over what it was found by, at byte {place[0]}"):
            ranges.refuse_within(units)
