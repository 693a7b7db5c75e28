"""A folder of weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.making import weights, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    write(made / "model.safetensors", {"a": weights(8, 8)})
    return made
