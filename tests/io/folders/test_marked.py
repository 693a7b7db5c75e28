"""Configs with the mark for transformers: each that is taken comes back byte by byte."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bale.errors import UsageError
from bale.io.folders.marked import MARK, marked, unmarked

CONFIG = '{\r\n  "a": "\u00e9",\r\n  "b": 1\r\n}\r\n'
BLANK = st.text(" \t\r\n", max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4), BLANK, BLANK, st.sampled_from([None, 0, 2, "\r"]))
@example({"inner": {"quantization_config": {"quant_method": "bale"}, "a": 1}}, "\n  ", "", 2)
@example({"a": MARK.decode(), "{": "{"}, "\r\n", "\n", None)
def test_a_marked_config_comes_back(values: dict[str, object], before: str, behind: str, indent: object) -> None:
    text = f"{before}{json.dumps(values, indent=indent, ensure_ascii=False)}{behind}".encode("utf-8", "surrogatepass")
    try:
        stored = marked(text)
    except UsageError:
        assert "quantization_config" in values or "\\ud" in ascii(values)
        return
    assert unmarked(stored) == text
    assert json.loads(stored)["quantization_config"] == {"quant_method": "bale"}


def test_a_config_that_is_marked_already_is_refused() -> None:
    with pytest.raises(UsageError, match="are quantized"):
        marked(marked(CONFIG.encode()))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_another_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UsageError, match="not in UTF-8 without a byte order mark; save it as such"):
        marked(CONFIG.encode(encoding))


@pytest.mark.parametrize("config", [CONFIG.encode("latin-1"), codecs.BOM_UTF8, b"", b"\0", b'{"a": "\xed\xa0\x80"}'])
def test_what_is_no_text_is_refused(config: bytes) -> None:
    with pytest.raises(UsageError):
        marked(config)


def test_a_config_that_is_quantized_by_nothing_is_refused() -> None:
    """Of a key that is there twice the last counts, which would be this one."""
    with pytest.raises(UsageError, match=r'has "quantization_config": null, .* remove it'):
        marked(b'{"a": 1, "quantization_config": null}')
