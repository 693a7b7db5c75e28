"""The bench of what quantization does to models: its section on budgets, on a model of two matrices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bench.methods import by_budget, save
from tests.making import weights, write

torch = pytest.importorskip("torch")

from bench.quality import __main__ as quality  # noqa: E402
from bench.quality.budgets import compared  # noqa: E402
from bench.quality.judged import Judged, Score, one_minus_cosine  # noqa: E402


class Tiny(Judged):
    """Two matrices, the second of larger values, one after the other."""

    title, divergence, file, asked = "Tiny", "1 - cosine", "tiny/model.safetensors", 8

    def build(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(64, 128, bias=False), torch.nn.Linear(128, 64, bias=False))

    def answer(self) -> torch.Tensor:
        return self.module(torch.eye(64))

    def compared(self, answer: torch.Tensor, original: torch.Tensor) -> Score:
        return Score(one_minus_cosine(answer, original), 0)


@pytest.fixture
def matrices() -> Mapping[str, np.ndarray]:
    return {"0.weight": weights(128, 64), "1.weight": 8 * weights(64, 128, seed=1)}


def test_a_budget_is_spent_on_all_tensors_together(tmp_path: Path, matrices: Mapping[str, np.ndarray]) -> None:
    source = save(matrices, tmp_path / "source.safetensors")
    coded = by_budget(source, 4, "absolute", tmp_path)
    assert coded.bits(matrices) <= 4
    assert coded.stored["1.weight"] > coded.stored["0.weight"]
    assert not coded.exact


def test_a_row_holds_each_weight_against_equal_bits(tmp_path: Path, matrices: Mapping[str, np.ndarray]) -> None:
    path = tmp_path / Tiny.file
    path.parent.mkdir()
    write(path, matrices)
    for cells, times in compared(Tiny(tmp_path)):
        assert cells[0] == "Tiny"
        assert set(times) == {"quality", "relative", "absolute"}
        assert all(each > 0 for each in times.values())
        assert cells[-1].startswith("≤ 1: ")


def test_a_section_is_renewed_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    old, fresh, kept = quality.marked("budgets", "old"), quality.marked("budgets", r"new \1"), "between"
    page.write_text(f"{kept}\n{old}\n{kept}\n{quality.marked('weighted', 'kept')}")
    monkeypatch.setattr(quality, "PAGE", page)
    quality.renew("budgets", r"new \1")
    assert page.read_text() == f"{kept}\n{fresh}\n{kept}\n{quality.marked('weighted', 'kept')}"
