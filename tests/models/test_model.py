"""Lines of a text, and what parameters of a model are called in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bale.errors import SourceError
from bale.models.lines import read_lines
from bale.models.model import Model


def test_lines_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"  a b\n\n \t\nc\r\nd\n")
    assert read_lines(path, 9) == ["a b", "c", "d"]
    assert read_lines(path, 2) == ["a b", "c"]
    for content, words in ((b"", "no text"), (b" \n\n", "no text"), (b"\xff\xfe", "not text in UTF-8")):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=words):
            read_lines(path, 9)
    with pytest.raises(SourceError, match="no such file"):
        read_lines(tmp_path / "none", 9)


def test_names_in_files() -> None:
    stored = {"bert.a": {(2, 3)}, "b": {(2, 3)}, "bert.c": {(3,)}, "c": {(2, 3)}}
    model = Model(None, None, stored, "bert", ())
    found = {name: model.stored_name(name, (2, 3)) for name in ("bert.a", "a", "b", "bert.b", "bert.c", "c", "d")}
    assert found == {"bert.a": "bert.a", "a": "bert.a", "b": "b", "bert.b": "b", "bert.c": "c", "c": "c", "d": None}
