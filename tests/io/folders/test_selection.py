"""Patterns on the files of a folder."""

from __future__ import annotations

import pytest

from bale.io.folders.selection import Selection


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ((), (), {"a.bin", "b/c.bin", "b/d/e.json", "Z.BIN"}),
        ((), ("*.bin",), {"b/d/e.json", "Z.BIN"}),
        (("*.bin",), (), {"a.bin", "b/c.bin"}),
        (("b/*", "Z*"), ("*/c.*",), {"b/d/e.json", "Z.BIN"}),
        (("b/",), (), {"b/c.bin", "b/d/e.json"}),
        ((), ("c.bin",), {"a.bin", "b/c.bin", "b/d/e.json", "Z.BIN"}),
    ],
)
def test_what_is_taken(include: tuple[str, ...], exclude: tuple[str, ...], taken: set[str]) -> None:
    selection = Selection(include, exclude)
    assert {name for name in ("a.bin", "b/c.bin", "b/d/e.json", "Z.BIN") if selection.takes(name)} == taken


def test_patterns_without_a_match() -> None:
    selection = Selection(("*.bin", "x*"), ("y*",))
    assert selection.unmatched(["a.bin", "b"]) == ["--include 'x*'", "--exclude 'y*'"]
    assert selection.unmatched(["xy", "yx", ".bin"]) == []
    assert not Selection()
