"""Archives of released formats give back what they gave when they were made, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bale
from tests.making import sha256

GOLDEN = Path(__file__).parent / "golden"
DIGESTS = json.loads((GOLDEN / "digests.json").read_text())


def test_all_are_there() -> None:
    assert sorted(DIGESTS) == sorted(path.name for path in GOLDEN.glob("*.bale"))
    assert len(DIGESTS) >= 5


@pytest.mark.parametrize("name", DIGESTS)
def test_golden_archives(tmp_path: Path, name: str) -> None:
    done = bale.decompress(GOLDEN / name, tmp_path / "back")
    assert sha256(tmp_path / "back") == DIGESTS[name] == done.sha256
    bale.verify(GOLDEN / name)


@pytest.mark.parametrize("name", [name for name in DIGESTS if "opaque" not in name])
def test_golden_archives_are_those_of_their_source(name: str) -> None:
    version, source = name.split("-")[:2]
    bale.verify(GOLDEN / name, GOLDEN / f"{version}-{source}.safetensors")
