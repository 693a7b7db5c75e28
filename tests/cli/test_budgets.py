"""Budgets on the command line: what they print, and the words of what cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import weights, write


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """The queries, keys and values of a layer, and a vector."""
    parts = {f"layer.0.{name}.weight": weights(200, 300, seed=seed) for seed, name in enumerate(("q", "k", "v"))}
    return write(tmp_path / "m.safetensors", {**parts, "norm": weights(300, seed=9)})


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--max-size", "100kB"], "--max-size 100kB"),
        (["--max-size", "15%", "--weight", "relative"], "--max-size 15%"),
        (["--bits", "3.5"], "--bits 3.5"),
        (["--bits", "3.5", "-p", "trellis:effort=high"], "--bits 3.5"),
        (["--max-error", "0.05"], "--max-error 0.05"),
        (["--min-snr", "26"], "--min-snr 26"),
        (["--mean-error", "0.05", "--weight", "absolute"], "--mean-error 0.05"),
    ],
)
@pytest.mark.parametrize("verb", ["compress", "plan"])
def test_each_budget(bale: Bale, layer: Path, verb: str, options: list[str], rule: str) -> None:
    said = bale(verb, layer, *options, "--json")
    assert said.code == 0, said.err
    document = said.json if verb == "plan" else said.result
    rows = {row["name"]: row for row in document["tensors"]}
    assert {row["rule"] for row in rows.values() if row["relative_error"]} == {rule}
    assert rows["layer.0.q.weight"]["pipeline"].startswith("trellis:")
    assert rows["norm"]["pipeline"] == "lossless"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bits", "4", "--max-size", "5MB"], ["--max-size and --bits given", "one budget"]),
        (["--max-error", "0.1", "--min-snr", "20"], ["--max-error and --min-snr given"]),
        (["--bits", "x"], ["--bits x: not a number from 0.1 to 20"]),
        (["--bits", "0"], ["--bits 0"]),
        (["--bits", "nan"], ["--bits nan"]),
        (["--max-error", "2"], ["--max-error 2"]),
        (["--min-snr", "-5"], ["--min-snr -5"]),
        (["--mean-error", "0"], ["--mean-error 0"]),
        (["--max-size", "0"], ["--max-size 0: that is nothing"]),
        (["--max-size", "5XB"], ["--max-size 5XB", "for example 500MB"]),
        (["--bits", "4", "--weight", "heavy"], ["--weight heavy", "quality, relative, absolute"]),
        (["--weight", "relative"], ["--weight", "--max-size or --bits"]),
        (["--max-error", "0.1", "--weight", "relative"], ["--weight", "--max-error is of each"]),
        (["--bits", "4", "-p", "int8"], ["--bits chooses pipelines, and so does -p int8"]),
        (["--bits", "4", "-p", "trellis:bits=3"], ["-p trellis:bits=3 has a target, and so has --bits"]),
        (["--bits", "3", "-p", "trellis:bits=4"], ["-p trellis:bits=4 has a target, and so has --bits"]),  # its default
    ],
)
@pytest.mark.parametrize("verb", ["compress", "plan"])
def test_what_makes_no_sense(bale: Bale, layer: Path, verb: str, options: list[str], words: list[str]) -> None:
    bale(verb, layer, *options).failed(2, *words)
    assert not list(layer.parent.glob("*.bale"))


@pytest.mark.parametrize("verb", ["compress", "plan"])
def test_one_that_cannot_be_met_names_the_least(bale: Bale, layer: Path, verb: str) -> None:
    said = bale(verb, layer, "--max-size", "2kB")
    said.failed(2, "--max-size 2kB cannot be met: the least is ", "the most for norm")
    least = float(said.err.split("the least is ")[1].split(" kB")[0])
    assert bale(verb, layer, "--max-size", f"{1.02 * least:.2f}kB").code == 0
    bale(verb, layer, "--mean-error", "1e-3", "--rule", "*.q.*=int4").failed(2, "by the rules alone it is 0.0")


def test_few_bits_can_be_met_but_by_small_tensors(bale: Bale, layer: Path, tmp_path: Path) -> None:
    assert bale("plan", layer, "--bits", "0.1").code == 0
    small = write(tmp_path / "small.safetensors", {"w": weights(64, 64)})
    bale("plan", small, "--bits", "0.1").failed(2, "--bits 0.1 cannot be met: the least is 0.13")
    assert bale("plan", small, "--bits", "0.13").code == 0


def test_several_sources_have_a_budget_each(bale: Bale, layer: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", {"w": weights(400, 300, seed=7)})
    said = bale("compress", layer, other, "--max-size", "60kB", "-o", f"{tmp_path}/out/", "--json")
    assert said.code == 0
    for entry in said.json["results"]:
        assert 0.98 * 60_000 <= entry["totals"]["stored_bytes"] <= 60_000


def test_one_of_several_may_fail(bale: Bale, layer: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", {"norm": weights(3000, seed=7)})
    said = bale("compress", layer, other, "--max-size", "8kB", "-o", f"{tmp_path}/out/")
    assert said.code == 2
    assert f"{other}: --max-size 8kB cannot be met: the least is 10.9 kB" in said.err
    assert [path.name for path in (tmp_path / "out").glob("*.bale")] == ["m.lossy.safetensors.bale"]


def test_a_folder_has_one(bale: Bale, layer: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    shutil.copy(layer, folder / "a.safetensors")
    write(folder / "b.safetensors", {"w": weights(400, 300, seed=7)})
    (folder / "config.json").write_text('{"layers": 1}')
    said = bale("compress", folder, "--max-size", "15%", "-o", out)
    assert said.code == 0
    limit = 0.15 * size_of(folder)
    assert 0.98 * limit <= size_of(out) <= limit
    planned = bale("plan", folder, "--max-size", "15%", "--json").json
    assert planned["totals"]["predicted_bytes"] <= limit
    assert {row["file"] for row in planned["tensors"]} == {"a.safetensors", "b.safetensors"}


def test_a_plan_says_what_it_takes_and_what_more_would_gain(bale: Bale, layer: Path) -> None:
    said = bale("plan", layer, "--max-size", "100kB", "--rule", "*.q.*=int4")
    lines = [line for line in said.out.splitlines() if "  --" not in line]
    assert any(line.startswith("  trellis, 2 settings: 2 tensors, 480.0 kB -> about ") for line in lines)
    assert any(line.startswith("  int4: 1 tensor, 240.0 kB -> about ") for line in lines)
    assert any(line.startswith("  lossless: 1 tensor, 1.2 kB -> about ") for line in lines)
    (cost,) = [line for line in lines if line.startswith("to be made in about ")]
    assert " s, " in cost
    assert "MB of memory at most, and " in cost
    assert cost.endswith("kB beside the target")
    (gain,) = [line for line in lines if line.startswith("--max-size 100kB: 10 % more bytes would gain ")]
    assert "10 % fewer lose " in gain


def test_a_plan_as_json(bale: Bale, layer: Path) -> None:
    document = bale("plan", layer, "--max-size", "80kB", "--json").json
    (met,) = document["budgets"]
    assert (met["budget"], met["weight"]) == ("--max-size 80kB", "quality")
    assert 0.5 < met["gain_db"] < 6  # 6 dB a bit
    assert 0.5 < met["loss_db"] < 6
    assert document["explained"] == document["warnings"] == document["warning_kinds"] == []
    totals = document["totals"]
    assert totals["temporary_bytes"] == totals["predicted_bytes"] <= 80_000
    assert totals["memory_bytes"] > 80 << 20
    assert bale("plan", layer, "--max-error", "0.1", "--json").json["budgets"] == []


def test_few_bits_and_large_errors_are_warnings(bale: Bale, layer: Path) -> None:
    said = bale("plan", layer, "--bits", "0.7")
    assert said.code == 0
    assert "warning: 3 tensors, such as layer.0." in said.out
    assert "below 1.5 bits a weight (0." in said.out
    assert "with an error above 0.5 (0." in said.out
    document = bale("plan", layer, "--bits", "0.7", "--json").json
    assert document["warning_kinds"] == ["few-bits", "large-error"]
    assert len(document["warnings"]) == 2


def test_queries_unlike_keys_are_a_warning(bale: Bale, layer: Path) -> None:
    said = bale("plan", layer, "--bits", "4", "--rule", "*.q.*=int8")
    assert "1 set of query, key and value by different codecs: layer.0.*.weight by int and trellis" in said.out


def test_warnings_become_an_exit_code_when_asked(bale: Bale, layer: Path) -> None:
    assert bale("plan", layer, "--bits", "4", "--exit-code").code == 0
    said = bale("plan", layer, "--bits", "1.3", "--exit-code", "--json")
    assert said.code == 5
    assert said.json["warning_kinds"] == ["few-bits"]


def test_choices_are_explained(bale: Bale, layer: Path) -> None:
    said = bale("plan", layer, "--bits", "4", "--explain", "layer.0.q.weight")
    assert said.code == 0
    assert "layer.0.q.weight: trellis:bits=" in said.out
    assert ", by --bits 4\n" in said.out
    table = said.out.split("instead", 1)[1]
    assert "lossless:effort=max" in table
    assert "trellis:bits=6" in table
    explained = bale("plan", layer, "--bits", "4", "--explain", "*.k.*", "--explain", "norm", "--json").json[
        "explained"
    ]
    assert [row["name"] for row in explained] == ["layer.0.k.weight", "norm"]
    assert explained[1]["notes"] == ["ndim 1: fewer than 2, only for rules"]


def test_what_cannot_be_explained(bale: Bale, layer: Path, tmp_path: Path) -> None:
    bale("plan", layer, "--explain", "no").failed(2, "--explain no: there is no such tensor", "bale inspect")
    many = write(tmp_path / "many.safetensors", {f"w{number}": weights(8, 8, seed=number) for number in range(21)})
    bale("plan", many, "--explain", "*").failed(2, "--explain: 21 tensors match, and 20 are explained at most")
