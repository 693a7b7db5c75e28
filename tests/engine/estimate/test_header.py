"""What an archive's header cannot hold stays lossless, the smallest tensors first."""

from __future__ import annotations

from pathlib import Path

import pytest

import bale
from bale.engine.estimate import header
from tests.making import sha256, weights, write


@pytest.mark.parametrize(
    ("limit", "value", "expected", "words"),
    [
        ("PART_LIMIT", 10, 3, "would hold 15 parts with those of all tensors, and it can hold 10"),  # one less: 11
        (
            "HEADER_LIMIT",
            1300,
            2,
            "header would take 1568 bytes with the parts of all tensors, and it can take 1300",
        ),
    ],
)
def test_the_smallest_tensors_stay_lossless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: int, words: str
) -> None:
    source = write(tmp_path / "m.safetensors", {f"w{n}": weights(8 * (n + 1), 16, seed=n) for n in range(5)})
    monkeypatch.setattr(header, "PART_LIMIT", 100)
    monkeypatch.setattr(header, limit, value)
    report = bale.compress(source, tmp_path / "m.bale", rules=["*=int8"])
    rows = [row.pipeline for row in report.rows]
    kept = rows.count("lossless")
    assert rows == ["lossless"] * kept + ["int8"] * (5 - kept)
    assert kept == expected
    notes = {note.kind: note.text for note in report.rows[0].notes}
    assert words in notes["refused"]
    assert [row.name for file in bale.plan(source, rules=["*=int8"]).files for row in file.tensors][:1] == ["w0"]
    bale.verify(tmp_path / "m.bale", source)


def test_what_fits_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "m.safetensors", {f"w{n}": weights(8, 16, seed=n) for n in range(5)})
    bale.compress(source, tmp_path / "a.bale", rules=["*=int8"])
    monkeypatch.setattr(header, "PART_LIMIT", 15)
    bale.compress(source, tmp_path / "b.bale", rules=["*=int8"])
    assert sha256(tmp_path / "a.bale") == sha256(tmp_path / "b.bale")
