"""The bench of whole processes: its arithmetic, what it runs, and the files that peers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bale.spec import Array
from bench.common import Cost
from bench.peers import whole
from bench.programs import growth
from bench.programs.measuring import VERBS, File, Key, Measured, Peer, measured
from bench.programs.peers import lossless_table, lossy_cells
from bench.synthetic import write_many
from tests.making import Raw, write


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "m.safetensors", tmp_path, weights=50_000_000, size=100_000_000, dtype="BF16")


def test_a_part_is_scaled_but_for_the_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: File) -> None:
    peer = Peer("HQQ", Path("python"), file.path, tmp_path / "out", file.weights)
    figures = '{"weights": 5000000, "bytes": 10, "work": {"cpu": 2, "wall": 1}, "coding": {"cpu": 1.5, "wall": 0.5}}'
    (tmp_path / "out.json").write_text(figures, encoding="utf-8")
    monkeypatch.setattr("bench.programs.measuring.run_process", lambda command, **given: Cost(4, 6))
    cost = peer.run()
    assert (cost.wall, cost.cpu) == pytest.approx((3 + 10, 4 + 20))
    assert (peer.coding[0].wall, peer.coding[0].cpu) == pytest.approx((5, 15))


def test_ratios_are_those_within_rounds(file: File) -> None:
    one, two = ("compress", "int8"), ("compress", "lossless")
    costs: dict[Key, list[Cost]] = {one: [Cost(1, 2), Cost(1, 9), Cost(1, 8)]}
    costs[two] = [Cost(1, 1), Cost(1, 3), Cost(1, 1)]
    found = Measured(file, costs, {}, {"int8": 25_000_000})
    assert found.cpu_ratio(one, two) == 3
    assert found.size("int8") == 25
    assert found.per_weights(Cost(1, 2)).cpu == 4
    assert found.rate(Cost(0.5, 1)) == "0.200"


def test_limits_stand_beside_the_ratios_they_hold(file: File) -> None:
    peers = {("compress", name): Peer(name, Path(), Path(), Path(), 1) for name in ("Q8_0", "Q4_K")}
    costs: dict[Key, list[Cost]] = {("compress", "int8"): [Cost(1, 3)], ("compress", "Q8_0"): [Cost(1, 1)]}
    costs |= {("compress", "trellis:bits=4"): [Cost(1, 3)], ("compress", "Q4_K"): [Cost(1, 1)]}
    peers["compress", "Q4_K"].coding.append(Cost(1, 4))
    found = Measured(file, costs, peers, dict.fromkeys(("int8", "trellis:bits=4"), 1))
    assert lossy_cells(found, ("compress", "int8"))[-2:] == ["3.00 x Q8_0", "≤ 2: not reached"]
    assert lossy_cells(found, ("compress", "trellis:bits=4"))[-2:] == ["0.75 x Q4_K, alone", "≤ 1: reached"]


def test_growth_is_told_from_row_to_row() -> None:
    keys: list[Key] = [(verb, name) for name in growth.GROWING for verb in ("compress", "decompress")]
    small = (1.0, 1.0, {key: Cost(1, 1) for key in keys})
    large = (4.0, 4.0, {key: Cost(2, 8 if key == keys[2] else 4) for key in keys})
    rows = growth.growth_table("file", "CPU s/GB", {"1 GB": small, "4 GB": large}).splitlines()
    assert rows[2].endswith("| - | - |")
    assert rows[3] == "| 4 GB | 1.00 (2.000) | 1.00 (2.000) | 2.00 (2.000) | 1.00 (2.000) | 2.00 | ≤ 1.2: not reached |"


def test_every_verb_runs_in_turns(tmp_path: Path) -> None:
    write_many(tmp_path / "m.safetensors", 2, rows=64)
    file = File.of(tmp_path / "m.safetensors", tmp_path)
    assert file.dtype == "BF16"
    header = 8 + int.from_bytes(file.path.read_bytes()[:8], "little")
    assert header + 2 * file.weights == file.size
    found = measured(
        file, ("lossless",), {"compress": 2, "decompress": 1, "verify": 1}, seldom=[(VERBS[1], "lossless")]
    )
    assert {verb for verb, _ in found.costs} == set(VERBS)
    assert [len(found.costs[verb, "lossless"]) for verb in VERBS] == [2, 1, 1, 1, 1, 1]
    assert 0 < found.size("lossless") < 100
    assert "| bale decompress" in lossless_table({"m": found}).replace("`", "")


def test_a_peer_takes_matrices_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "m.safetensors", tmp_path / "out"
    values = np.random.default_rng(0).standard_normal((16, 8)).astype(ml_dtypes.bfloat16)
    half = values[:4].astype(np.float16)
    write(source, {"a": Raw("BF16", values.shape, values.tobytes()), "b": np.ones(4, np.float32), "c": half})
    seen: list[Array] = []

    def encoder(method: str, pool: Any) -> whole.Encoder:
        def encode(matrix: Array) -> list[Array]:
            seen.append(matrix)
            return [matrix.astype(np.int8)]

        return encode

    monkeypatch.setattr(whole, "encoder", encoder)
    found = whole.quantized("any", source, out, np.inf)
    assert found["weights"] == 16 * 8 + 4 + 4 * 8
    assert out.stat().st_size == 16 * 8 + 4 * 4 + 4 * 8
    assert all(map(np.array_equal, seen, (values.astype(np.float32), half.astype(np.float32))))
    seen.clear()
    found = whole.quantized("any", source, out, 20)
    assert [matrix.shape for matrix in seen] == [(3, 8)]
    assert (found["weights"], found["bytes"]) == (24, 48)
