"""Files that are reports of bale's, and others of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

import bale
from bale.io.names import report_path
from bale.io.reports import is_report
from tests.making import weights, write


def test_a_report_is_one_by_name_and_content(tmp_path: Path) -> None:
    made = bale.compress(write(tmp_path / "m", {"w": weights(8)}), tmp_path / "m.bale")
    assert made.path is not None
    path = report_path(made.path)
    assert is_report(path)
    other = path.rename(tmp_path / "other.json")
    assert not is_report(other)
    assert not is_report(path)  # which is not there


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"archive": {}, "tool": {"name": "other"}}', '{"archive": {}}'])
def test_others_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.bale.report.json"
    path.write_text(text)
    assert not is_report(path)
