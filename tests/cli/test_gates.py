"""`--fail-if`: commands that fail by a condition on what they found, and leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bale as api
from bale.engine.folder.writer import FolderWriter
from bale.errors import OutOfRoom
from bale.report.gates.gate import GatesFailed
from tests.cli.conftest import Bale, Outcome
from tests.making import bf16, names_in, sha256, weights, write

LOSSY = "max(relative_error) > 2%"


def gate_failed(said: Outcome, *words: str) -> list[str]:
    """The lines below the only failure, which has these words."""
    assert said.code == 5, said
    errors = [line for line in said.err.splitlines() if line.startswith("bale: error: ")]
    assert len(errors) == 1, said.err
    for word in ("gate failed: ", *words):
        assert word in errors[0]
    return [line.removeprefix("bale:   ") for line in said.err.splitlines() if line.startswith("bale:   ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    (made / "deep").mkdir(parents=True)
    (made / "readme.txt").write_text("text")
    write(made / "a.safetensors", {"w": weights(64, 64, seed=1), "b": weights(9)})
    write(made / "deep" / "c.safetensors", {"w": bf16(weights(64, 64, seed=2))})
    return made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    return


def test_nothing_is_made_where_a_gate_fails(bale: Bale, model: Path, tmp_path: Path) -> None:
    before = names_in(tmp_path)
    below = gate_failed(bale("compress", model, "-p", "int4", "--fail-if", LOSSY), f"{LOSSY}: it is 0.0", "--keep")
    assert [line.split(": relative_error 0.0")[0] for line in below] != below
    figures = [float(line.rpartition(" ")[2]) for line in below]
    assert len(below) == 3
    assert figures == sorted(figures, reverse=True)
    assert names_in(tmp_path) == before
    assert bale("compress", model, "-p", "int4", "-o", "new/", "--fail-if", LOSSY).code == 5
    assert names_in(tmp_path) == before


def test_what_is_there_stays_where_a_gate_fails(bale: Bale, model: Path, tmp_path: Path) -> None:
    assert bale("compress", model, "-o", "out.bale").code == 0
    before = {name: sha256(tmp_path / name) for name in names_in(tmp_path)}
    gate_failed(bale("compress", model, "-o", "out.bale", "-p", "int4", "-f", "--fail-if", LOSSY))
    assert {name: sha256(tmp_path / name) for name in names_in(tmp_path)} == before


def test_gates_that_hold_change_nothing(bale: Bale, model: Path) -> None:
    assert bale("compress", model, "-p", "int4", "-o", "a.bale").code == 0
    holding = ("--fail-if", "ratio < 1.4", "--fail-if", "coverage < 0.95 or bytes > 500MB", "--keep")
    said = bale("compress", model, "-p", "int4", "-o", "b.bale", *holding)
    assert (said.code, sha256(Path("a.bale"))) == (0, sha256(Path("b.bale")))


def test_several_gates_have_a_line_each(bale: Bale, model: Path) -> None:
    said = bale("compress", model, "-p", "int4", "--fail-if", LOSSY, "--fail-if", "ratio > 99", "--fail-if", "bytes>1")
    errors = [line for line in said.err.splitlines() if "error: " in line]
    assert [line.split(":")[3] for line in errors] == [f" {LOSSY}", " bytes>1"]
    assert "--keep" in errors[1]
    assert "--keep" not in errors[0]


def test_keep_keeps_the_archive(bale: Bale, model: Path) -> None:
    said = bale("compress", model, "-p", "int4", "-o", "kept.bale", "--fail-if", LOSSY, "--keep")
    gate_failed(said)
    assert said.out.startswith(f"{model} -> kept.bale: ")
    assert bale("verify", "kept.bale", "--against", model).code == 0
    assert Path("kept.bale.report.json").exists()
    found = bale("compress", model, "-p", "int4", "-o", "kept.bale", "-f", "--fail-if", LOSSY, "--keep", "--json")
    assert (found.code, found.result["code"], found.result["error"]["code"]) == (5, 5, 5)
    assert found.result["totals"]["ratio"] > 1
    assert found.json["summary"]["failed"] == 1


def test_json_names_the_tensors(bale: Bale, model: Path) -> None:
    found = bale("compress", model, "-p", "int4", "--fail-if", LOSSY, "--json").result
    error = found.pop("error")
    assert found == {"name": str(model), "code": 5}
    (gate,) = error.pop("gates")
    assert error.keys() == {"code", "kind", "message", "hint"}
    assert (error["code"], error["kind"]) == (5, "check")
    assert error["message"].startswith(f"gate failed: {LOSSY}: it is ")
    assert (gate["expression"], len(gate["tensors"])) == (LOSSY, 3)
    assert gate["values"]["max(relative_error)"] == gate["tensors"][0]["value"]


@pytest.mark.parametrize("target", ["new", "empty"])
def test_a_folder_is_made_whole_or_not_at_all(bale: Bale, folder: Path, tmp_path: Path, target: str) -> None:
    if target == "empty":
        Path("out").mkdir()
    before = names_in(tmp_path)
    below = gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "--fail-if", LOSSY))
    assert sorted(line.split(": ")[0] for line in below) == ["a.safetensors:w", "deep/c.safetensors:w"]
    assert names_in(tmp_path) == before
    gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "--fail-if", LOSSY, "--keep"))
    assert (
        bale("verify", *({"new": ["out"], "empty": ["out/models.lossy.bale"]}[target]), "--against", folder).code == 0
    )


def test_gates_of_a_folder_are_of_the_whole(bale: Bale, folder: Path) -> None:
    bale("compress", folder, "-p", "int4", "-o", "out")
    totals = json.loads(Path("out.report.json").read_text())["totals"]
    size = sum(path.stat().st_size for path in Path("out").rglob("*") if path.is_file())
    assert totals["stored_bytes"] == size
    assert bale("compress", folder, "-p", "int4", "-o", "b", "--fail-if", f"bytes != {size}").code == 0
    assert bale("compress", folder, "-p", "int4", "-o", "c", "--fail-if", f"bytes == {size}").code == 5


def test_a_folder_that_was_begun_stays_incomplete(bale: Bale, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OutOfRoom("no room", 1)

    with monkeypatch.context() as patched:
        patched.setattr(FolderWriter, "sync", full)
        assert bale("compress", folder, "-p", "int4", "-o", "out").code == 6
    begun = names_in(Path("out"))
    assert "a.safetensors.bale" in begun
    gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "--fail-if", LOSSY))
    assert names_in(Path("out")) == begun
    assert bale("verify", "out").code == 4
    gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "--fail-if", LOSSY, "--keep"))
    assert bale("verify", "out", "--against", folder).code == 0


def test_a_folder_that_is_written_over_is_incomplete(bale: Bale, folder: Path) -> None:
    assert bale("compress", folder, "-o", "out").code == 0
    gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "-f", "--fail-if", LOSSY))
    assert bale("verify", "out").code == 4
    gate_failed(bale("compress", folder, "-p", "int4", "-o", "out", "--fail-if", LOSSY, "--keep", "-f"))
    assert bale("verify", "out", "--against", folder).code == 0


def test_each_source_is_asked_by_itself(bale: Bale, tmp_path: Path) -> None:
    for name, rows in (("a", 64), ("b", 8), ("c", 64)):  # of b nothing is large enough for -p
        write(tmp_path / f"{name}.safetensors", {f"{name}.w": weights(rows, 64)})
    gates = ("-p", "int4", "--allow-unmatched", "--fail-if", "lossy.tensors == 1", "-o", "out/")
    files = [f"{name}.safetensors" for name in "abc"]
    said = bale("compress", *files, "gone", *gates)
    assert said.code == 5
    failed = [line for line in said.err.splitlines() if "error: " in line]
    assert failed[0].startswith("bale: error: a.safetensors: gate failed: lossy.tensors == 1: it is 1; --keep ")
    assert failed[1].startswith("bale: error: c.safetensors: gate failed: ")
    assert "1 done, 3 failed" in said.out
    assert names_in(Path("out")) == ["b.safetensors.bale", "b.safetensors.bale.report.json"]
    said = bale("compress", "gone", *files, *gates, "-f", "--keep", "--json")
    assert [each["code"] for each in said.json["results"]] == [3, 5, 0, 5]
    assert said.code == 3
    assert len(names_in(Path("out"))) == 6


def test_an_archive_that_is_there_is_asked_and_stays(bale: Bale, model: Path, folder: Path, tmp_path: Path) -> None:
    for source in (model, folder):
        assert bale("compress", source, "-p", "int4").code == 0
        before = names_in(tmp_path)
        again = ("compress", source, "-p", "int4", "--skip-existing", "--fail-if")
        assert bale(*again, "ratio < 1").code == 0
        gate_failed(bale(*again, LOSSY))
        said = bale(*again, LOSSY, "--keep", "--json")
        assert (said.code, said.result["skipped"], said.result["code"]) == (5, True, 5)
        assert names_in(tmp_path) == before


@pytest.mark.parametrize(
    "command",
    [
        ["compress", "gone"],
        ["compress", "gone", "gone2"],
        ["plan", "gone"],
        ["compare", "gone", "gone2"],
        ["verify", "gone"],
    ],
)
def test_conditions_are_read_before_anything_else(bale: Bale, command: list[str]) -> None:
    bale(*command, "--fail-if", "rato < 1 and max(relative_eror) > 1").failed(2, "there is no rato")
    bale(*command, "--fail-if", "9**9**9 > 1").failed(2, "'9**9**9 > 1'", "it is not an expression")
    assert bale(*command, "--fail-if", "max(relative_error) > 1").code == 3
    document = bale(*command, "--fail-if", "relative_error", "--json")
    assert (document.code, document.json["error"]["kind"]) == (2, "usage")


def test_what_depends_on_options(bale: Bale, model: Path, stats: Path) -> None:
    bale("compress", model, "--keep").failed(2, "--keep")
    bale("compress", model, "--fail-if", "output_error > 0").failed(2, "compress --stats can tell")
    options = ("compress", model, "-p", "int4", "--stats", stats, "-o", "out.bale", "--fail-if")
    below = gate_failed(bale(*options, "output_error > 0.01"), "the worst of 3 tensors")
    assert {line.split(": ")[0] for line in below} == {"layers.1.weight", "layers.10.weight", "embed.weight"}
    gate_failed(bale(*options, "output_error.worst > 0.01"), "output_error.worst > 0.01: it is ")
    assert bale(*options, "output_error.tensors != 2").code == 0


def test_plan_is_asked_for_what_it_predicts(bale: Bale, model: Path) -> None:
    said = bale("plan", model, "-p", "int4", "--save", "plan.toml", "--fail-if", "bytes > 1 kB and coverage > 95%")
    assert "about" in said.out
    assert "saved" not in said.out
    below = gate_failed(said, "bytes is ", " and coverage is 0.99")
    assert [line.split(": ")[0] for line in below[:3]] == ["layers.1.weight", "embed.weight", "layers.10.weight"]
    assert not Path("plan.toml").exists()
    assert bale("plan", model, "-p", "int4", "--save", "plan.toml", "--fail-if", "seconds > 1e6").code == 0
    assert Path("plan.toml").exists()
    found = bale("plan", model, "-p", "int4", "--fail-if", "predicted_bytes > 1", "--json")
    assert (found.code, found.json["error"]["code"]) == (5, 5)
    planned, made = found.json["totals"], api.compress(model, "m.bale", pipeline="int4").to_json()["totals"]
    assert planned["bits_per_weight"] == pytest.approx(made["bits_per_weight"], rel=0.05)
    for key in ("tensors", "original_bytes"):
        assert planned["lossy"][key] == made["lossy"][key]
    assert planned["lossy"]["predicted_bytes"] == made["lossy"]["stored_bytes"]


def test_compare_is_asked_for_differences(bale: Bale, model: Path) -> None:
    report = api.compress(model, "m.bale", pipeline="int4").to_json()
    error = report["totals"]["relative_error"]
    for text in (f"relative_error > {error * 1.001}", "only_in_a > 0", "equal != 1", "tensors != 4", "cosine < 0.9"):
        assert bale("compare", model, "m.bale", "--fail-if", text).code == 0, text
    said = bale("compare", model, "m.bale", "--fail-if", f"relative_error > {error * 0.999}")
    gate_failed(said, "it is 0.0")
    assert "1 of 4 tensors equal" in said.out
    gate_failed(bale("compare", model, "m.bale", "--fail-if", "snr_db < 34dB"))
    assert bale("compare", model, model, "--fail-if", "snr_db < 34dB or relative_error > 0").code == 0
    both = ("compare", model, "m.bale", "--max-error", "0.01", "--fail-if", LOSSY)
    said = bale(*both)
    assert (said.code, said.err.count("bale: error: ")) == (5, 2)
    document = bale(*both, "--json").json
    assert "3 tensors beyond --max-error 0.01" in document["error"]["message"]
    assert f"; gate failed: {LOSSY}: " in document["error"]["message"]
    assert len(document["error"]["gates"][0]["tensors"]) == 3


def test_what_cannot_be_compared_is_beyond_every_limit(bale: Bale, model: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", {"layers.1.bias": weights(64, seed=2), "new": weights(4, 4)})
    for text in ("relative_error > 1e9", "max(relative_error) > 1e9", "worst_row_error > 1e9", "only_in_b > 0"):
        assert bale("compare", model, other, "--fail-if", text).code == 5, text
    assert bale("compare", model, other, "--json").json["summary"]["relative_error"] is None


def test_verify_is_asked_for_what_the_archive_has(bale: Bale, model: Path, folder: Path) -> None:
    for source in (model, folder):
        report = api.compress(source, f"{source.name}.x.bale", pipeline="int4").to_json()
        archive = Path(f"{source.name}.x.bale")
        figures = [("bytes", "stored_bytes"), ("ratio", "ratio"), ("relative_error", "relative_error")]
        text = " or ".join(f"{name} != {report['totals'][key]!r}" for name, key in figures)
        assert bale("verify", archive, "--against", source, "--fail-if", text).code == 0
        said = bale("verify", archive, "--against", source, "--fail-if", "worst_row_error > 0.01", "--json")
        assert (said.code, said.result["ok"], said.result["error"]["kind"]) == (5, False, "check")
        said = bale("verify", archive, "--fail-if", "worst_row_error > 0.01")
        gate_failed(said, "the worst of ")
        assert "sound" in said.out


def test_in_python_the_error_has_the_result(model: Path) -> None:
    calls = [
        lambda keep: api.compress(model, "m.bale", pipeline="int4", fail_if=[LOSSY], keep=keep),
        lambda keep: api.plan(model, pipeline="int4", fail_if=[LOSSY]),
        lambda keep: api.compare(model, "m.bale", fail_if=[LOSSY]),
        lambda keep: api.verify("m.bale", model, fail_if=[LOSSY]),
    ]
    with pytest.raises(GatesFailed):
        calls[0](False)
    assert not Path("m.bale").exists()
    for call in calls:
        with pytest.raises(GatesFailed, match="gate failed") as problem:
            call(True)
        assert type(problem.value.result).__name__ in ("Report", "Planned", "Differences", "Checked")
    assert Path("m.bale").exists()
