"""Headers that the library refuses; tests/io/sources/test_open.py has what comes of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.io.faults import Malformed, Unsupported
from bale.io.headers import _outside_texts, check_entries, refuse
from tests.io.test_bombs import at_most

values = st.recursive(
    st.none() | st.integers() | st.text('a":,{}[]\\\\é'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('"{[:\\\\'), inner, max_size=4),
)


def signs(value: object) -> int:
    """Braces, brackets and colons that the JSON of a value needs."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(signs, value.values()))
    return 1 + sum(map(signs, value)) if isinstance(value, list) else 0


@given(values, st.booleans())
def test_signs_of_texts_do_not_count(value: object, ascii_only: bool) -> None:
    count = _outside_texts(json.dumps(value, ensure_ascii=ascii_only).encode())
    assert sum(map(count, (b"{", b"[", b":"))) == signs(value)


def test_blocks_that_end_within_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bale.io.headers._BLOCK", 3)
    count = _outside_texts(b'{"aa{{{{":["[[[[",{}],"":1}')
    assert [count(sign) for sign in (b"{", b"[", b":", b",")] == [2, 1, 2, 2]


def test_what_a_header_of_many_values_may_take() -> None:
    """Such a one is not looked at more closely: the library's words have to do."""
    check_entries(header := b'{"x":[' + b"1000," * 3_000_000 + b"1]}")
    with at_most(4 * len(header)), pytest.raises(Malformed, match="because"):
        refuse(header, 8, "because")


@pytest.mark.parametrize(
    "header", [b"", b"[1]", b"3", b"\xff", b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0]}}']
)
def test_what_makes_no_sense_has_the_words_of_the_library(header: bytes) -> None:
    with pytest.raises(Malformed, match=r"^because$"):
        refuse(header, 8, "because")


def test_nothing_that_is_known_is_wrong() -> None:
    with pytest.raises(Unsupported, match="does not read \\(because\\)"):
        refuse(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8, "because")
