"""Statistics of inputs: which encoders are told, what the report tells of it, and what it is good for."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bale
from bale.compressors.importance import Importance
from bale.compressors.quantizers.linear import Int
from bale.compressors.trellis import pool
from bale.engine.estimate import pools
from bale.engine.folder import writer
from bale.engine.reading.open import open_tensors
from bale.errors import SourceError
from tests.making import bf16, sha256, weights, write

# What reaches the encoders.


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], Importance | None]]:
    """Shape and use of whatever the quantizer `int` is given."""
    found: list[tuple[tuple[int, ...], Importance | None]] = []
    honest = Int.observe

    def observe(self: Int, block: Any, start: int, spec: Any, known: Any, use: Importance | None = None) -> Any:
        found.append((spec.shape, use))
        return honest(self, block, start, spec, known, use)

    monkeypatch.setattr(Int, "observe", observe)
    return found


def test_every_encoder_is_told(tmp_path: Path, model: Path, stats: Path, seen: list[Any]) -> None:
    """Alone, as a difference, as what a first layer leaves, in front of an exact rest, and in a plan."""
    base = write(tmp_path / "base", {"layers.10.weight": weights(96, 64, seed=3) + 0.001 * weights(96, 64)})
    wanted = (1 / np.arange(2, 130, 2, dtype="<f4")).tolist()  # the largest is below 1
    choices: list[dict[str, Any]] = [
        {"pipeline": "int8"},
        {"pipeline": "int4/exact"},
        {"rules": ["layers.10.weight=int4"], "base": base},
        {"rules": ["layers.10.weight=svd:rank=1/int4"]},
    ]
    verbs = (partial(bale.compress, out=tmp_path / "out", force=True), bale.plan)
    for verb in verbs:
        for choice in choices:
            seen.clear()
            verb(model, stats=stats, **choice)
            told = [use for shape, use in seen if shape == (96, 64)]
            assert told, choice
            for use in told:
                assert use is not None
                assert use.second_moment.tolist() == [wanted]
            assert all(use is None for shape, use in seen if shape == (100, 64))


def test_long_tensors_are_told_in_blocks_and_samples(tmp_path: Path, seen: list[Any]) -> None:
    rows = 2100
    model = write(tmp_path / "m.safetensors", {"w": bf16(weights(rows, 1000, seed=1))})
    by_row = np.arange(1, rows + 1, dtype="<f4").reshape(rows, 1)
    stats = write(tmp_path / "s", {"w": by_row})
    report = bale.compress(model, f"{model}.bale", pipeline="int4", stats=stats).to_json()
    assert len(seen) == 3
    assert all(use.second_moment.shape == (rows, 1) for _, use in seen)
    assert report["tensors"][0]["output_error"] == pytest.approx(independent(model, by_row, "w"), rel=1e-9)
    seen.clear()
    bale.plan(model, pipeline="int4", stats=stats)
    _, (shape, use) = seen  # the first one is a small sample that loads the code
    assert use.second_moment.shape == shape
    picked = (4096 * use.second_moment[:, 0]).astype(int) - 1
    assert picked[0] == 0
    assert picked[-1] == rows - 1
    assert (np.diff(picked) > 0).all()


# The report.


def independent(model: Path, second: np.ndarray, name: str) -> float:
    """The same number by a formula of its own."""
    with open_tensors(model) as before, bale.open(f"{model}.bale") as after:
        w, v = before[name].astype("f8"), after[name].astype("f8")
    return float(np.sqrt((second * (v - w) ** 2).sum() / (second * w**2).sum()))


@pytest.mark.parametrize("choice", ["int4", "svd:rank=8+int8", "trellis:bits=3", "nf4"])
def test_output_errors(model: Path, stats: Path, choice: str) -> None:
    report = bale.compress(model, f"{model}.bale", pipeline=choice, stats=stats).to_json()
    rows = {row["name"]: row for row in report["tensors"]}
    for name, second in (("layers.1.weight", np.arange(1, 129)), ("layers.10.weight", 1 / np.arange(1.0, 65))):
        wanted = independent(model, second.astype("<f4").astype("f8"), name)
        assert rows[name]["output_error"] == pytest.approx(wanted, rel=1e-9)
        assert rows[name]["output_error"] != pytest.approx(rows[name]["relative_error"], rel=1e-4)
    assert rows["embed.weight"]["output_error"] is rows["layers.1.bias"]["output_error"] is None
    assert report["stats"] == {"name": "stats.safetensors", "sha256": sha256(stats)}
    errors = [rows[name]["output_error"] for name in ("layers.1.weight", "layers.10.weight")]
    assert report["totals"]["output_error"] == {
        "tensors": 2,
        "mean": pytest.approx(sum(errors) / 2),
        "worst": max(errors),
        "worst_tensor": "layers.1.weight" if errors[0] == max(errors) else "layers.10.weight",
    }
    rebuilt = bale.inspect(f"{model}.bale")
    assert rebuilt["stats"] is rebuilt["totals"]["output_error"] is rebuilt["tensors"][0]["output_error"] is None
    assert bale.plan(model, pipeline=choice, stats=stats).to_json()["stats"] == report["stats"]
    assert bale.verify(f"{model}.bale", model).exact is False


@pytest.mark.parametrize("choice", ["trellis:bits=3", "svd:rank=8+int8"])
@pytest.mark.parametrize("layout", ["plain", "transposed", "channels last"])
def test_output_errors_by_covariance(tmp_path: Path, choice: str, layout: str) -> None:
    """Those of the layer itself, on the inputs that it is the covariance of."""
    shape = (48, 20, 2, 3) if layout == "channels last" else (48, 120)
    weight = torch.from_numpy(weights(*shape))
    stored = weight.T.contiguous().T if layout == "transposed" else weight
    stored = weight.to(memory_format=torch.channels_last) if layout == "channels last" else stored
    torch.save({"w": stored}, tmp_path / "m.pt")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((300, 120)) @ rng.standard_normal((120, 120))
    covariance = (inputs.T @ inputs / 300).astype("<f4")
    mean = covariance.diagonal().reshape(shape[1:])
    stats = write(tmp_path / "s", {"w": mean.copy(), "w:covariance": covariance})
    (row,) = bale.compress(tmp_path / "m.pt", tmp_path / "m.pt.bale", pipeline=choice, stats=stats).to_json()["tensors"]
    with bale.open(tmp_path / "m.pt.bale") as tensors:
        before, after = weight.numpy().reshape(48, 120), tensors["w"].reshape(48, 120)
    wanted = np.linalg.norm(inputs @ (after - before).T) / np.linalg.norm(inputs @ before.T)
    assert row["output_error"] == pytest.approx(wanted, rel=1e-3)


def test_what_comes_back_exactly_has_no_error(tmp_path: Path, model: Path, stats: Path) -> None:
    report = bale.compress(model, f"{model}.bale", stats=stats, rules=["layers.1.weight=int4/exact"]).to_json()
    assert {row["name"]: row["output_error"] for row in report["tensors"]} == {
        "layers.1.weight": 0,
        "layers.1.bias": None,
        "layers.10.weight": 0,
        "embed.weight": None,
    }
    assert report["totals"]["output_error"] is None


def test_equal_tensors_and_tied_names_share_it(tmp_path: Path) -> None:
    shared = weights(64, 80)
    model = write(tmp_path / "m.safetensors", {"a": shared, "b": shared})
    stats = write(tmp_path / "s", {"a": np.arange(80, dtype="<f4")})
    first, second = bale.compress(model, f"{model}.bale", pipeline="int4", stats=stats).to_json()["tensors"]
    assert second["same_as"] == "a"
    assert first["output_error"] == second["output_error"] == pytest.approx(independent(model, np.arange(80), "a"))


def test_zeros_everywhere(tmp_path: Path) -> None:
    """No input at all: what an error is relative to is zero, unless there is none."""
    model = write(tmp_path / "m.safetensors", {"w": weights(64, 80), "zero": np.zeros((64, 80), "<f4")})
    nothing = {"": np.zeros(80, "<f4"), ":covariance": np.zeros((80, 80), "<f4")}
    stats = write(tmp_path / "s", {name + end: each for name in ("w", "zero") for end, each in nothing.items()})
    for choice in ("int4", "svd:rank=4+int8", "trellis:bits=3"):
        report = bale.compress(model, f"{model}.bale", pipeline=choice, stats=stats, force=True).to_json()
        assert [row["output_error"] for row in report["tensors"]] == [None, 0]
        assert report["tensors"][0]["relative_error"] > 0


def test_what_is_no_covariance_tells_no_error(tmp_path: Path) -> None:
    """Every pair of inputs with the correlation -1: the traces are negative."""
    covariance = np.full((80, 80), -1, "<f4") + 2 * np.eye(80, dtype="<f4")
    stats = write(tmp_path / "s", {"w": np.ones(80, "<f4"), "w:covariance": covariance})
    rng = np.random.default_rng(0)
    for weight in (np.ones((64, 80), "<f4") + rng.standard_normal((64, 1)).astype("<f4") / 9, 1 + weights(64, 80)):
        model = write(tmp_path / "m.safetensors", {"w": weight})
        (row,) = bale.compress(model, f"{model}.bale", rules=["w=svd:rank=4+int8"], stats=stats, force=True).to_json()[
            "tensors"
        ]
        assert row["relative_error"] > 0
        assert row["output_error"] is None


def test_one_name_in_two_files_has_to_fit_both(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for n in (3, 4):
        write(tmp_path / "model" / f"{n}.safetensors", {"w": weights(64, 10 * n)})
    with pytest.raises(SourceError, match=r"F32\[40\] does not broadcast to the tensor's F32\[64,30\]"):
        bale.plan(tmp_path / "model", stats=write(tmp_path / "s", {"w": np.ones(40, "<f4")}))


@pytest.mark.parametrize("choice", ["int4", "int:bits=4,clip=mse", "trellis:bits=3", "svd:rank=8+int8"])
def test_their_scale_makes_no_difference(tmp_path: Path, choice: str) -> None:
    model = write(tmp_path / "m.safetensors", {"w": weights(64, 80)})
    inputs = np.random.default_rng(0).standard_normal((500, 80)) * np.exp(np.random.default_rng(1).standard_normal(80))
    covariance, found = inputs.T @ inputs / 500, set()
    covariance = covariance.astype("<f4").astype("<f8")
    for scale, dtype in ((2.0**-90, "<f4"), (1.0, "<f4"), (2.0**110, "<f4"), (2.0**-200, "<f8"), (2.0**900, "<f8")):
        scaled = (scale * covariance).astype(dtype)
        stats = write(tmp_path / "s", {"w": scaled.diagonal().copy(), "w:covariance": scaled})
        (row,) = bale.compress(model, f"{model}.bale", pipeline=choice, stats=stats, force=True).to_json()["tensors"]
        found.add((sha256(Path(f"{model}.bale")), round(row["output_error"], 12)))
    assert len(found) == 1


@pytest.mark.parametrize("choice", ["int4", "int:bits=4,clip=mse", "trellis:bits=3", "svd:rank=8+int8"])
@pytest.mark.parametrize("seed", range(3))
def test_mean_squares_of_all_sizes(tmp_path: Path, choice: str, seed: int) -> None:
    """From subnormal to the largest, and zero: nothing fails, and what comes out is measured."""
    model = write(tmp_path / "m.safetensors", {"w": weights(64, 80)})
    rng = np.random.default_rng(seed)
    second = np.exp2(rng.uniform(-149, 128, 80)).astype("<f4") * (rng.random(80) < 0.9)
    covariance = np.diag(second)
    for given in ({"w": second}, {"w": second, "w:covariance": covariance}):
        (row,) = bale.compress(
            model, f"{model}.bale", pipeline=choice, stats=write(tmp_path / "s", given), force=True
        ).to_json()["tensors"]
        assert row["pipeline"] == choice
        assert row["output_error"] is not None
        assert row["output_error"] < 3


@pytest.mark.usefixtures("threads_of_blas")
@pytest.mark.parametrize("choice", ["int4", "trellis:bits=3", "svd:rank=8+int8"])
def test_bytes_do_not_depend_on_threads(tmp_path: Path, stats: Path, choice: str) -> None:
    model = write(
        tmp_path / "m.safetensors",
        {"layers.1.weight": weights(9000, 128, seed=5), "layers.10.weight": bf16(weights(96, 64))},
    )
    found = set()
    for threads in (1, 2, 4):
        report = bale.compress(
            model, f"{model}.bale", pipeline=choice, stats=stats, force=True, threads=threads
        ).to_json()
        found.add((sha256(Path(f"{model}.bale")), str([row["output_error"] for row in report["tensors"]])))
    assert len(found) == 1


def test_the_archive_is_decoded_without(tmp_path: Path, model: Path, stats: Path) -> None:
    bale.compress(model, f"{model}.bale", pipeline="trellis:bits=3", stats=stats)
    stats.unlink()
    bale.decompress(f"{model}.bale", tmp_path / "back.safetensors")
    assert all(row.status == "equal" for row in bale.compare(f"{model}.bale", tmp_path / "back.safetensors"))


# Folders.


def test_a_resumed_run_does_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for n in (1, 2):
        write(source / f"m-{n}.safetensors", {f"layers.{n}.weight": weights(80, 64, seed=n)})
    one, other = (
        write(tmp_path / name, {f"layers.{n}.weight": values for n in (1, 2)})
        for name, values in (("one", np.ones(64, "<f4")), ("other", np.arange(64, dtype="<f4")))
    )
    bale.compress(source, tmp_path / "whole", pipeline="int4", stats=one)
    record = json.loads((tmp_path / "whole" / "bale.folder.json").read_text())
    for stats, again in ((one, 0), (other, 2), (None, 2)):
        (tmp_path / "whole" / "bale.folder.json").write_text(json.dumps({**record, "complete": False}))
        begun = []
        honest = writer.compress_file

        def counting(*arguments: Any, honest: Any = honest, begun: list[int] = begun, **more: Any) -> Any:
            begun.append(1)
            return honest(*arguments, **more)

        with monkeypatch.context() as patched:
            patched.setattr(writer, "compress_file", counting)
            report = bale.compress(source, tmp_path / "whole", pipeline="int4", stats=stats, force=True).to_json()
        assert len(begun) == again
        assert (report["stats"] is None) == (stats is None)
        assert [row["output_error"] is None for row in report["tensors"]] == 2 * [stats != other]


# What it is for.


UNEVEN = np.exp(2 * np.random.default_rng(1).standard_normal(256)).astype("<f4")  # mean squares: a factor of thousands


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[Path, Path]:
    """Two matrices and their statistics."""
    model = write(tmp_path / "m.safetensors", {"w": weights(300, 256, seed=1), "v": weights(300, 256, seed=2)})
    return model, write(tmp_path / "s", {"w": UNEVEN, "v": UNEVEN[::-1].copy()})


@pytest.mark.parametrize("choice", ["trellis:bits=3", "trellis:bits=3,pool=model"])
def test_the_trellis_moves_errors_where_they_do_no_harm(uneven: tuple[Path, Path], choice: str) -> None:
    model, stats = uneven
    (row, _) = bale.compress(model, f"{model}.bale", pipeline=choice).to_json()["tensors"]
    without = independent(model, UNEVEN.astype("f8"), "w")
    (told, _) = bale.compress(model, f"{model}.bale", pipeline=choice, stats=stats, force=True).to_json()["tensors"]
    assert told["output_error"] < 0.9 * without
    assert told["snr_db"] < row["snr_db"]
    assert told["stored_bytes"] == pytest.approx(row["stored_bytes"], rel=0.01)


def test_a_pool_weighs_its_samples(uneven: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, stats = uneven
    found: list[Importance | None] = []
    honest = pool.Member.__init__

    def init(self: Any, *arguments: Any) -> None:
        found.append(arguments[0].importance)
        honest(self, *arguments)

    monkeypatch.setattr(pool.Member, "__init__", init)
    for most in (pools._EACH, 1 << 14):
        monkeypatch.setattr(pools, "_EACH", most)
        bale.plan(model, pipeline="trellis:bits=3,pool=model", stats=stats)
    assert len(found) == 4
    assert all(use is not None and use.second_moment.shape == (1, 256) for use in found)
