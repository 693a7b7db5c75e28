"""Budgets of whole checkpoints: what is stored takes, or loses, no more, and little less."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.engine.estimate import budget
from bale.errors import UsageError
from tests.making import bf16, weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices of several sizes and scales, one of them twice, and what is no weight."""
    rng = np.random.default_rng(0)
    return write(
        tmp_path_factory.mktemp("budget") / "m.safetensors",
        {
            "large": bf16(0.02 * weights(900, 700, seed=1) * np.exp(rng.standard_normal((900, 1)))),
            "usual": weights(400, 500, seed=2),
            "small": 5 * weights(100, 64, seed=3),
            "again": weights(400, 500, seed=2),
            "zeros": np.zeros((100, 100), np.float32),
            "norm": weights(500, seed=4),
            "ids": np.arange(3000),
        },
    )


def compressed(source: Path, budget: dict[str, Any], **choices: Any) -> dict[str, Any]:
    made = bale.compress(
        source, source.with_suffix(".bale"), budget=bale.budget(**budget), force=True, verify=False, **choices
    )
    return made.to_json()


def lossy(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["tensors"] if row["relative_error"] and row["same_as"] is None]


def elements(rows: list[dict[str, Any]]) -> int:
    return sum(math.prod(row["shape"]) for row in rows)


@pytest.mark.parametrize("weight", ["quality", "relative", "absolute"])
@pytest.mark.parametrize("size", [150_000, 300_000, 600_000])
def test_a_size_is_met(source: Path, size: int, weight: str) -> None:
    report = compressed(source, {"max_size": size, "weight": weight})
    assert 0.99 * size <= report["archive"]["bytes"] <= size
    assert {row["name"] for row in lossy(report)} == {"large", "usual", "small"}


def test_a_share_is_of_the_source(source: Path) -> None:
    limit = math.floor(0.15 * source.stat().st_size)
    assert 0.99 * limit <= compressed(source, {"max_size": "15%"})["archive"]["bytes"] <= limit


@pytest.mark.parametrize("bits", [1.5, 3.25, 6])
def test_bits_are_the_mean_of_what_is_lossy(source: Path, bits: float) -> None:
    rows = lossy(compressed(source, {"bits": bits}))
    assert 0.99 * bits <= 8 * sum(row["stored_bytes"] for row in rows) / elements(rows) <= bits


def test_an_error_of_all_together_is_met(source: Path) -> None:
    report = compressed(source, {"mean_error": 0.05})
    assert 0.98 * 0.05 <= report["totals"]["lossy"]["relative_error"] <= 0.05


def test_an_error_of_each_is_met(source: Path) -> None:
    assert all(0.98 * 0.05 <= row["relative_error"] <= 0.05 for row in lossy(compressed(source, {"max_error": 0.05})))
    assert all(row["snr_db"] >= 26 for row in lossy(compressed(source, {"min_snr": 26})))


def test_small_tensors_are_finer_by_default(source: Path) -> None:
    rows = {row["name"]: row for row in compressed(source, {"max_size": 300_000})["tensors"]}
    plain = {row["name"]: row for row in compressed(source, {"max_size": 300_000, "weight": "relative"})["tensors"]}
    assert rows["small"]["relative_error"] < 0.7 * plain["small"]["relative_error"]
    errors = [plain[name]["relative_error"] for name in ("large", "usual", "small")]
    assert max(errors) < 1.05 * min(errors)


def test_rules_are_fixed_and_counted(source: Path) -> None:
    report = compressed(source, {"max_size": 500_000}, rules=["usual=int8", "again=int8"])
    assert 0.99 * 500_000 <= report["archive"]["bytes"] <= 500_000
    rows = {row["name"]: row for row in report["tensors"]}
    assert rows["usual"]["pipeline"] == "int8"
    assert rows["large"]["rule"] == "--max-size 500000"


def test_the_errors_of_rules_are_counted(source: Path) -> None:
    report = compressed(source, {"mean_error": 0.05}, rules=["usual=int:bits=6", "again=int:bits=6"])
    assert report["totals"]["lossy"]["relative_error"] <= 0.05
    with pytest.raises(UsageError, match=r"--mean-error 0.001 cannot be met: by the rules alone it is 0\."):
        compressed(source, {"mean_error": 0.001}, rules=["small=int:bits=2"])


def test_what_fits_stays_lossless(source: Path) -> None:
    plain = bale.compress(source, source.with_suffix(".bale"), force=True).to_json()["archive"]["bytes"]
    report = compressed(source, {"max_size": plain + 5000})
    assert not lossy(report)
    assert report["archive"]["bytes"] <= plain + 5000
    partly = compressed(source, {"max_size": plain - 5000})
    assert partly["archive"]["bytes"] <= plain - 5000


def test_less_than_the_least_is_refused_with_what_can_be_reached(source: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--max-size 5kB cannot be met: the least is [0-9.]+ kB; .* the most for"
    ) as found:
        compressed(source, {"max_size": "5kB"})
    least = float(str(found.value).split("the least is ")[1].split(" ")[0]) * 1000
    assert compressed(source, {"max_size": round(1.05 * least)})["archive"]["bytes"] <= 1.05 * least


def test_a_saved_plan_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.toml"
    bale.plan(source, budget=bale.budget(max_size=300_000), save=saved)
    again = bale.compress(source, tmp_path / "m.bale", recipe=saved)
    compressed(source, {"max_size": 300_000})
    assert again.path is not None
    assert again.path.read_bytes() == source.with_suffix(".bale").read_bytes()


def test_any_number_of_threads_gives_the_same_bytes(source: Path) -> None:
    found = set()
    for threads in (1, 2, 4):
        compressed(source, {"max_size": 300_000}, threads=threads)
        found.add(source.with_suffix(".bale").read_bytes())
    assert len(found) == 1


def test_what_repeats_a_tensor_is_stored_with_it(source: Path) -> None:
    rows = {row["name"]: row for row in compressed(source, {"bits": 4})["tensors"]}
    assert rows["again"]["same_as"] == "usual"
    assert rows["again"]["pipeline"] == rows["usual"]["pipeline"]


def test_a_folder_has_one_budget(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(source, folder / "a.safetensors")
    write(folder / "b.safetensors", {"b": weights(500, 600, seed=9)})
    (folder / "readme.txt").write_text("x" * 5000)
    report = bale.compress(folder, tmp_path / "out", budget=bale.budget(max_size=400_000)).to_json()
    size = sum(each.stat().st_size for each in (tmp_path / "out").rglob("*") if each.is_file())
    assert 0.99 * 400_000 <= size <= 400_000
    assert report["totals"]["stored_bytes"] == size


def test_differences_to_a_base_meet_it(source: Path, tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"w": weights(500, 600, seed=1)})
    tuned = weights(500, 600, seed=1) + 0.01 * weights(500, 600, seed=2)
    target = write(tmp_path / "m.safetensors", {"w": tuned.astype(np.float32)})
    report = compressed(target, {"max_size": 100_000}, base=base)
    assert 0.99 * 100_000 <= report["archive"]["bytes"] <= 100_000
    assert report["tensors"][0]["pipeline"].startswith("base/trellis")
    assert report["tensors"][0]["relative_error"] < 0.003


def test_statistics_are_used(source: Path, tmp_path: Path) -> None:
    stats = write(tmp_path / "stats.safetensors", {"usual": np.linspace(0.01, 4, 500).astype(np.float32)})
    report = compressed(source, {"max_size": 300_000}, stats=stats)
    assert 0.99 * 300_000 <= report["archive"]["bytes"] <= 300_000


def test_moments_are_kinds_of_their_own(tmp_path: Path) -> None:
    second = (1e-4 * weights(300, 400, seed=3)) ** 2
    source = write(
        tmp_path / "m.safetensors",
        {
            "model.w": weights(300, 400, seed=1),
            "optimizer.state.0.exp_avg": 1e-5 * weights(300, 400, seed=2),
            "optimizer.state.0.exp_avg_sq": second.astype(np.float32),
        },
    )
    report = compressed(source, {"max_size": 300_000})
    assert 0.99 * 300_000 <= report["archive"]["bytes"] <= 300_000
    rows = {row["name"].rpartition(".")[2]: row for row in report["tensors"]}
    assert max(row["relative_error"] for row in rows.values()) < 0.3
    assert rows["exp_avg_sq"]["pipeline"].startswith("positive+int")
    assert rows["exp_avg"]["pipeline"] == "fp8"
    with bale.open(source.with_suffix(".bale")) as opened:
        assert (np.asarray(opened["optimizer.state.0.exp_avg_sq"])[second > 0] > 0).all()


def test_what_can_be_no_loss_is_left(tmp_path: Path) -> None:
    broken = weights(300, 400, seed=1)
    broken[5, 5] = np.nan
    source = write(tmp_path / "m.safetensors", {"broken": broken, "w": weights(600, 400, seed=2)})
    report = compressed(source, {"max_size": 600_000})
    assert 0.99 * 600_000 <= report["archive"]["bytes"] <= 600_000
    rows = {row["name"]: row for row in report["tensors"]}
    assert rows["broken"]["note_kinds"] == ["non-finite"]


def test_nothing_that_can_be_lossy_is_a_note(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"norm": weights(500, seed=4)})
    report = compressed(source, {"max_size": 4000})
    assert any("--max-size 4000 touches no tensor" in note for note in report["notes"])
    with pytest.raises(UsageError, match="cannot be met"):
        compressed(source, {"max_size": 1000})


def test_what_is_left_unused_is_said(tmp_path: Path) -> None:
    x = np.sin(np.arange(300 * 900) / 7).reshape(300, 900).astype(np.float32)
    source = write(tmp_path / "m.safetensors", {"periodic": x})
    report = compressed(source, {"max_size": 300_000})
    assert report["archive"]["bytes"] <= 300_000
    left = report["archive"]["bytes"] < 0.99 * 300_000 and lossy(report)
    assert bool(left) == any("leaves" in note and "unused" in note for note in report["notes"])


def test_predictions_are_what_is_made(source: Path) -> None:
    planned = bale.plan(source, budget=bale.budget(max_size=300_000)).to_json()
    done = compressed(source, {"max_size": 300_000})
    assert planned["totals"]["predicted_bytes"] == pytest.approx(done["totals"]["stored_bytes"], rel=0.005)
    rows = {row["name"]: row for row in done["tensors"]}
    for row in planned["tensors"]:
        if row["snr_db"] is not None:
            assert row["snr_db"] == pytest.approx(rows[row["name"]]["snr_db"], abs=0.1)


def test_reports_hold_no_more_than_documented(source: Path) -> None:
    assert json.loads(json.dumps(compressed(source, {"bits": 4})))["tensors"][0]["rule"] == "--bits 4"


def test_bits_of_rules_are_counted(source: Path) -> None:
    rows = lossy(compressed(source, {"bits": 4}, rules=["usual=int8", "again=int8"]))
    assert 0.98 * 4 <= 8 * sum(row["stored_bytes"] for row in rows) / elements(rows) <= 4
    with pytest.raises(UsageError, match=r"--bits 0.5 cannot be met: the least is [0-9.]+, with what rules choose"):
        compressed(source, {"bits": 0.5}, rules=["usual=int8", "again=int8"])


@pytest.mark.parametrize(("key", "limit"), [("bits", 4), ("mean_error", 0.05)])
def test_what_is_above_a_mean_is_made_again(
    source: Path, monkeypatch: pytest.MonkeyPatch, key: str, limit: float
) -> None:
    honest, calls = budget.rounded_down, []

    def generous(value: float) -> float:
        calls.append(value)
        return honest(value) if len(calls) > 3 else 1.02 * value

    monkeypatch.setattr(budget, "rounded_down", generous)
    report = compressed(source, {key: limit})
    rows = lossy(report)
    assert len(calls) == 6
    if key == "bits":
        assert 8 * sum(row["stored_bytes"] for row in rows) / elements(rows) <= limit
    else:
        assert report["totals"]["lossy"]["relative_error"] <= limit


def test_moments_of_one_name_in_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("a", "b"):
        moments = {f"optimizer.state.{n}.exp_avg": 1e-5 * weights(80, 80, seed=n) for n in range(3)}
        write(folder / f"{name}.safetensors", {"model.w": weights(80, 80), **moments})
    plain = bale.compress(folder, tmp_path / "plain").to_json()["totals"]["stored_bytes"]
    for share in (0.97, 0.9, 0.8, 0.6):
        limit = round(share * plain)
        made = bale.compress(folder, tmp_path / "out", budget=bale.budget(max_size=limit), force=True)
        assert made.to_json()["totals"]["stored_bytes"] <= limit
