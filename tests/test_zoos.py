"""The script that goes through zoos as people do, on a small one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "zoos.py"


@pytest.fixture(scope="module")
def zoos():
    spec = importlib.util.spec_from_file_location("zoos", SCRIPT)
    module = sys.modules["zoos"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_many_small_models(zoos, tmp_path: Path) -> None:
    page = zoos.many(tmp_path, tmp_path, 3).page()
    assert "3 done: " in page
    assert "3 there already: " in page
    assert "3 archives: " in page
    assert "by bale and by `du`" in page


def test_sums_that_do_not_agree_end_it(zoos, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "b").write_bytes(bytes(4))
    zoo = zoos.Zoo("t", "", tmp_path)
    zoo.agrees("one", (10, 4), "a", "b")
    with pytest.raises(SystemExit, match="du counts"):
        zoo.agrees("one", (10, 5), "a", "b")
