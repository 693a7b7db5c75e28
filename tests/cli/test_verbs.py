"""Each verb when all goes well, for people and for programs, and the help of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bale.cli.app import app
from tests.cli.conftest import Bale
from tests.making import bf16, names_in, sha256, weights, write

VERBS = [
    "compress",
    "decompress",
    "export",
    "plan",
    "advise",
    "inspect",
    "verify",
    "compare",
    "codecs",
    "recipes",
    "stats",
    "eval",
    "completion",
]


@pytest.fixture
def lossy(bale: Bale, model: Path) -> Path:
    out = model.with_name("int4.bale")
    assert bale("compress", model, "-p", "int4", "-o", out, "-q").code == 0
    return out


def test_there_are_these_verbs_and_no_stubs() -> None:
    assert [command.name for command in app.registered_commands] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(bale: Bale, verb: str) -> None:
    said = bale(verb, "--help")
    assert said.code == 0
    assert f"Example: bale {verb}" in " ".join(said.out.split())
    assert said.err == ""
    assert bale(verb, "-h").out == said.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_common_options(bale: Bale, verb: str) -> None:
    text = bale(verb, "--help").out
    expected = {"--json", "--quiet", "--help"}
    expected |= {"--threads"} if verb not in ("inspect", "codecs", "recipes", "completion") else set()
    expected |= {"--force"} if verb in ("compress", "decompress", "stats") else set()
    assert {option for option in expected if option in text} == expected


def test_version_and_top_help(bale: Bale) -> None:
    from importlib.metadata import version

    assert bale("--version").out == f"bale {version('bale')}\n"
    top = bale("--help")
    assert all(verb in top.out for verb in VERBS)
    nothing = bale()
    assert (nothing.code, nothing.out) == (2, top.out)


def test_unknown_verbs_and_missing_arguments(bale: Bale) -> None:
    bale("comprss").failed(2, "comprss")
    for verb in (verb for verb in VERBS if verb not in ("codecs", "recipes")):
        bale(verb).failed(2, f"bale {verb} --help")
    said = bale("compress", "--json")
    assert said.code == 2
    assert said.json["error"]["kind"] == "usage"


def test_compress(bale: Bale, model: Path) -> None:
    said = bale("compress", model)
    assert said.code == 0
    assert "every bit comes back" in said.out
    assert ", verified" in said.out
    said = bale("compress", model, "-p", "int4", "--rule", "embed*=int8", "-f", "--no-verify")
    assert "not verified" in said.out
    assert "SNR" in said.out
    assert "does not tell how well the model works" in said.out
    document = bale("compress", model, "-f", "--json", "-T", "1").result
    assert document["schema"] == 2
    assert bale("compress", model, "-f", "-q").out == ""


def test_notes_go_to_stderr(bale: Bale, tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_bytes(b"no weights in here" * 100)
    said = bale("compress", source, "--json")
    assert said.code == 0
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("bale: note: ")
    assert said.result["source"]["kind"] == "opaque"
    assert bale("compress", source, "-f", "-q").err == ""


def test_decompress(bale: Bale, model: Path, lossy: Path) -> None:
    out = model.with_name("out.safetensors")
    said = bale("decompress", lossy, "-o", out, "--json")
    assert said.code == 0
    assert said.result["path"] == str(out)
    assert said.result["exact"] is False
    assert said.result["sha256"] == sha256(out)
    assert said.result["bytes"] == out.stat().st_size
    assert "with the losses of its report" in bale("decompress", lossy, "-o", out, "-f").out
    assert bale("compress", model, "-q").code == 0
    assert "bit for bit" in bale("decompress", f"{model}.bale", "-o", out, "-f").out


def test_decompress_some_tensors(bale: Bale, model: Path, lossy: Path) -> None:
    from safetensors import safe_open

    out = model.with_name("some.safetensors")
    assert bale("decompress", lossy, "--tensor", "layers.1.*", "--tensor", "embed*", "-o", out).code == 0
    with safe_open(out, framework="np") as file:
        assert sorted(file.keys()) == ["embed.weight", "layers.1.bias", "layers.1.weight"]
    bale("decompress", lossy, "--tensor", "layers.1.*", "--tensor", "no", "-o", out, "-f").failed(2, "'no'")
    bale("decompress", lossy, "--tensor", "layers.1.*").failed(2, "-o")
    folder = model.with_name("folder")
    for made in (False, True):
        said = bale("decompress", lossy, "--tensor", "layers.1.*", "-o", f"{folder}/")
        said.failed(2, f"{folder} is a folder; name a file in it, like -o {folder}/out.safetensors")
        assert folder.exists() == made
        folder.mkdir(exist_ok=True)


def test_plan_predicts_what_compress_does(bale: Bale, model: Path) -> None:
    choices = ["-p", "int4", "--rule", "embed*=int8"]
    before = names_in(model.parent)
    planned = bale("plan", model, *choices, "--json").json
    assert names_in(model.parent) == before
    done = bale("compress", model, *choices, "--json").result
    for row, expected in zip(done["tensors"], planned["tensors"], strict=True):
        for key in ("name", "file", "shape", "dtype", "pipeline", "rule", "original_bytes", "same_as", "notes"):
            assert row[key] == expected[key]
    stored = done["totals"]["stored_bytes"]
    assert planned["totals"]["predicted_bytes"] == pytest.approx(stored, rel=0.1)  # closer for larger files
    text = bale("plan", model, *choices).out
    assert "layers.10.weight" in text
    assert "about" in text


def test_inspect(bale: Bale, model: Path, lossy: Path) -> None:
    assert "safetensors, 4 tensors" in bale("inspect", model).out
    plain = bale("inspect", model, "--json").result
    assert [row["name"] for row in plain["tensors"]] == [
        "layers.1.weight",
        "layers.1.bias",
        "layers.10.weight",
        "embed.weight",
    ]
    stored = bale("inspect", lossy, "--json").result
    assert [row["pipeline"] for row in stored["tensors"]] == ["int4", "lossless", "int4", "int4"]
    report = json.loads(lossy.with_name("int4.bale.report.json").read_text())
    assert list(stored) == ["name", "code", *report]
    assert stored["totals"] == report["totals"]
    assert "int4" in bale("inspect", lossy).out


def test_inspect_tells_the_floor_when_asked(bale: Bale, model: Path, lossy: Path) -> None:
    for path in (model, lossy):
        assert "floor: " not in bale("inspect", path).out
        assert "floor_bytes" not in bale("inspect", path, "--json").out
        text = bale("inspect", path, "--floor").out.splitlines()
        assert "floor  floor b/w" in text[0]
        document = bale("inspect", path, "--floor", "--json").result
        totals = document["totals"]
        assert totals["floor_bytes"] == pytest.approx(sum(row["floor_bytes"] for row in document["tensors"]), abs=4)
        assert text[-1].startswith("floor: ")
        assert text[-1].endswith(f"{totals['floor_bits_per_weight']:.2f} bits a weight")
    both = bale("inspect", model, lossy, "--floor", "--json").json["results"]
    assert both[0]["totals"]["floor_bytes"] > both[1]["totals"]["floor_bytes"]  # of loss less comes back


def test_verify_tells_of_a_report_that_is_of_another_archive(bale: Bale, model: Path, lossy: Path) -> None:
    """The archive is what is asked about: it is sound, and the exit code 0."""
    assert "report" not in bale("verify", lossy).err
    report = lossy.with_name(f"{lossy.name}.report.json")
    assert bale("compress", model, "-o", model.with_name("other.bale"), "-q").code == 0
    model.with_name("other.bale.report.json").rename(report)
    said = bale("verify", lossy)
    assert said.code == 0
    assert said.err == f"bale: note: {lossy}: the report beside it is of another archive\n"
    assert bale("verify", lossy, "-q").err == ""
    assert bale("verify", lossy, "--json").result["report"] == "of another archive"
    assert "the report beside it is of another archive" in bale("inspect", lossy, "--json").result["notes"]
    report.unlink()
    assert bale("verify", lossy, "--json").result["report"] is None


def test_verify(bale: Bale, model: Path, lossy: Path) -> None:
    assert "sound" in bale("verify", lossy).out
    assert bale("verify", lossy, "--against", model).code == 0
    said = bale("verify", lossy, "--json").result
    assert said == {
        "name": str(lossy),
        "code": 0,
        "path": str(lossy),
        "ok": True,
        "bytes": lossy.stat().st_size,
        "files": 1,
        "tensors": 4,
        "lossy_tensors": said["lossy_tensors"],
        "worst_tensor": said["worst_tensor"],
        "exact": False,
        "against": None,
        "report": "matches",
    }
    other = write(model.with_name("other"), {"w": weights(8)})
    bale("verify", lossy, "--against", other).failed(5)
    said = bale("verify", lossy, "--against", other, "--json")
    assert (said.code, said.result["code"], said.result["error"]["code"]) == (5, 5, 5)


def test_compare(bale: Bale, model: Path, lossy: Path) -> None:
    assert "4 of 4 tensors equal, bit for bit" in bale("compare", model, model).out
    assert bale("compare", model, model, "--max-error", "0").code == 0
    said = bale("compare", model, lossy)
    assert said.code == 0
    assert "1 of 4 tensors equal" in said.out
    assert bale("compare", model, lossy, "--max-error", "0.5").code == 0
    for limit in ("0", "0.01"):
        said = bale("compare", model, lossy, "--max-error", limit)
        assert said.code == 5
        assert said.err.startswith("bale: error: 3 tensors beyond")
    bale("compare", model, lossy, "--max-error", "-1").failed(2, "--max-error")
    bale("compare", model, lossy, "--max-error", "nan").failed(2, "--max-error")


def test_a_failed_comparison_is_one_document(bale: Bale, model: Path, lossy: Path) -> None:
    said = bale("compare", model, lossy, "--max-error", "0.01", "--json")
    assert said.code == 5
    assert said.json["error"]["code"] == 5
    assert said.json["summary"] == {"tensors": 4, "equal": 1, "max_error": 0.01, "exceeded": 3} | {
        "worst_tensor": said.json["summary"]["worst_tensor"],
        "max_row_error": None,
        "exceeded_rows": 0,
        "only_in_a": 0,
        "only_in_b": 0,
        "renamed": 0,
        "relative_error": pytest.approx(0.0918, abs=1e-3),
        "snr_db": pytest.approx(20.74, abs=0.1),
    }


def test_codecs(bale: Bale) -> None:
    rows = bale("codecs", "--json").json
    assert {"lossless", "int", "svd"} <= {row["name"] for row in rows}
    assert all(row["name"] in bale("codecs").out for row in rows)
    for row in rows:
        one = bale("codecs", row["name"])
        assert row["summary"] in one.out
        assert all(key["name"] in one.out for key in row["parameters"])
    assert bale("codecs", "int4", "--json").json["name"] == "int"
    bale("codecs", "itn").failed(2, "int")


def test_json_is_ascii_and_nothing_else_is_on_stdout(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "größe.safetensors", {"gewicht\u2028\x9b": bf16(weights(64, 64))})
    for command in (
        ["compress", source, "-p", "int8", "-o", f"{source}.bale"],
        ["plan", source],
        ["inspect", source],
        ["inspect", f"{source}.bale"],
        ["verify", f"{source}.bale", "--against", source],
        ["compare", source, f"{source}.bale"],
        ["decompress", f"{source}.bale", "-o", tmp_path / "out"],
        ["codecs"],
    ):
        said = bale(*command, "--json")
        assert said.code == 0
        assert said.out.isascii()
        assert said.json


def test_an_internal_error_shows_its_traceback(bale: Bale, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bale import api

    monkeypatch.setattr(api, "inspect", lambda path: {}["bug"])
    said = bale("inspect", model, "--json")
    assert said.code == 1
    assert "Traceback" in said.err
    assert said.result["error"]["kind"] == "internal"


def test_too_little_memory_is_told_in_one_line(bale: Bale, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bale import api

    def hungry(path: Path, **choices: object) -> None:
        raise MemoryError

    monkeypatch.setattr(api, "inspect", hungry)
    bale("inspect", model).failed(1, "memory")


def test_a_tensor_that_loss_passed_over_is_told(bale: Bale, tmp_path: Path) -> None:
    values = weights(64, 128)
    values[3, 5] = np.nan
    source = write(tmp_path / "m.safetensors", {"spoilt": values, "sound": weights(64, 128, seed=2)})
    said = bale("compress", source, "-p", "int4")
    assert said.code == 0
    assert "1 tensor kept lossless: spoilt (holds NaN" in said.err
    assert "kept lossless" not in bale("compress", source, "-f").err


def test_tensors_without_a_base_are_told(bale: Bale, model: Path, tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"x": weights(3, 3)})
    said = bale("compress", model, "--base", base, "-o", tmp_path / "m.bale")
    assert said.code == 0
    assert "4 tensors stored without the base: such as layers" in said.err
    assert "the base has no tensor of this name and shape" in said.err
    said = bale("compress", model, "--base", model, "-o", tmp_path / "2.bale")
    assert (said.code, said.out) == (2, "")
    assert "is its own base; name the checkpoint that it was made from" in said.err


def test_what_is_dense_already_is_told(bale: Bale, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 128)).astype(np.uint8)
    source = write(tmp_path / "m.safetensors", {"codes": noise, "few": noise[0], "plain": 0 * noise})
    for verb in ("compress", "plan"):
        rows = bale(verb, source, "--json", "--rule", "*=lossless").json
        rows = rows["tensors"] if verb == "plan" else rows["results"][0]["tensors"]
        assert [row["notes"] for row in rows] == [["already dense: stored as it is"], [], []]
    assert bale("compress", source, "-f", "--rule", "*=lossless").err == ""


def test_statistics(bale: Bale, model: Path, tmp_path: Path) -> None:
    stats = write(tmp_path / "stats", {"layers.10.weight": np.ones(64, "<f4")})
    said = bale("compress", model, "-p", "int4", "--stats", stats)
    assert said.code == 0
    assert "2 of 3 tensors coded with loss have no statistics, first layers.1.weight" in said.err
    assert "error of the outputs, by the statistics: 0.0" in said.out
    assert "at worst (layers.10.weight)" in said.out
    assert "error of the outputs" not in bale("compress", model, "-p", "int4", "-f").out
    assert bale("plan", model, "-p", "int4", "--stats", stats, "--json").json["stats"]["name"] == "stats"
    assert bale("verify", model.with_name("model.lossy.safetensors.bale"), "--against", model).code == 0


def test_bad_statistics(bale: Bale, model: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {"x": np.ones(64, "<f4")})
    shape = write(tmp_path / "shape", {"layers.10.weight": np.ones(65, "<f4")})
    for verb in ("compress", "plan"):
        bale(verb, model, "-p", "int4", "--stats", tmp_path / "none").failed(3, "none", "no such file")
        bale(verb, model, "-p", "int4", "--stats", tmp_path).failed(3, "not a regular file")
        bale(verb, model, "-p", "int4", "--stats", other).failed(3, "there it is x, in the source layers.1.weight")
        bale(verb, model, "-p", "int4", "--stats", shape).failed(3, "layers.10.weight", "F32[65]", "F32[96,64]")


def test_inspect_names_the_base(bale: Bale, model: Path, tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"embed.weight": bf16(weights(100, 64, seed=4) * 1.001)})
    assert bale("compress", model, "--base", base, "-o", tmp_path / "m.bale", "-q").code == 0
    assert "differences to base.safetensors" in bale("inspect", tmp_path / "m.bale").out
    assert bale("inspect", tmp_path / "m.bale", "--json").result["bases"] == ["base.safetensors"]
    assert bale("compress", model, "-q").code == 0
    assert "bases" not in bale("inspect", f"{model}.bale", "--json").result


def test_one_tensor_as_an_array_of_numpy(bale: Bale, model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"blocks[0].w": weights(6, 5), "b": bf16(weights(4)), "s": weights(1)})
    assert bale("compress", source, "-q").code == 0
    out = tmp_path / "x.npy"
    for name in ("blocks[0].w", "blocks[[]0].w"):
        assert bale("decompress", f"{source}.bale", "--tensor", name, "-o", out, "-f").code == 0
        found = np.load(out)
        assert np.array_equal(found, weights(6, 5))
        assert found.dtype == np.float32
    out.unlink()
    bale("decompress", f"{source}.bale", "--tensor", "*", "-o", out).failed(2, "one array, and 3 tensors match")
    bale("decompress", f"{source}.bale", "--tensor", "b", "-o", out).failed(2, "b is BF16, which numpy does not have")
    bale("decompress", f"{source}.bale", "--tensor", "x[0]", "-o", out).failed(2, "[[] is the bracket itself")
    for suffix in (".npz", ".pt", ".PTH", ".bin", ".gguf", ".h5", ".onnx"):
        bale("decompress", f"{source}.bale", "--tensor", "s", "-o", tmp_path / f"x{suffix}").failed(2, suffix.lower())
    assert not any(path.stem == "x" for path in tmp_path.iterdir())


def test_a_pipeline_that_fits_nothing_is_a_note(bale: Bale, model: Path) -> None:
    said = bale("compress", model, "-p", "svd:rank=1000")
    assert said.code == 0
    assert "-p svd:rank=1000 touches no tensor: it can be used for none of 3 tensors" in said.err
    assert "every bit comes back" in said.out
    bale("compress", model, "--rule", "embed.weight=svd:rank=1000", "-f").failed(2, "none of the tensor it chooses")


def test_the_folder_one_stands_in_has_a_name(
    bale: Bale, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    model.rename(tmp_path / "here" / "m.safetensors")
    monkeypatch.chdir(tmp_path / "here")
    for verb in ("compress", "plan", "inspect"):
        assert any("here" in line.split()[0] for line in bale(verb, ".").out.splitlines() if line)
    monkeypatch.chdir(tmp_path / "here.bale")
    bale("decompress", ".").failed(2, ". does not end in .bale", "-o")
    assert bale("decompress", ".", "-o", "../out/", "-q").code == 0
    assert (tmp_path / "out" / "here" / "m.safetensors").is_file()


@pytest.mark.parametrize("verb", ["plan", "inspect", "inspect archives"])
def test_names_that_several_files_have_are_shown_as_they_are_taken(bale: Bale, tmp_path: Path, verb: str) -> None:
    for part in ("a", "b"):
        (tmp_path / "m" / part).mkdir(parents=True)
        write(tmp_path / "m" / part / "x.safetensors", {"w": weights(8, 8, seed=ord(part)), part: weights(4)})
    assert bale("compress", tmp_path / "m").code == 0
    shown = bale(verb.split()[0], tmp_path / ("m.bale" if verb.endswith("archives") else "m"))
    names = [line.split()[0] for line in shown.out.splitlines()[1:5]]
    assert sorted(names) == ["a", "a/x.safetensors:w", "b", "b/x.safetensors:w"]
    out = tmp_path / "out.safetensors"
    for name in names:
        assert bale("decompress", tmp_path / "m.bale", "--tensor", name, "-o", out, "-f").code == 0


def test_a_rule_may_name_a_tensor_by_its_file(bale: Bale, tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / "m" / part).mkdir(parents=True)
        write(tmp_path / "m" / part / "x.safetensors", {"w": weights(64, 64, seed=ord(part))})
    said = bale("compress", tmp_path / "m", "--rule", "b/x.safetensors:w=int8", "--json").result
    assert [row["pipeline"] for row in said["tensors"]] == ["lossless", "int8"]
    assert bale("compress", tmp_path / "m", "--rule", "*:v=int8", "-f").code == 2
    assert bale("compress", tmp_path / "m", "--rule", "re:b/.*=int8", "-f").code == 2
    assert bale("compress", tmp_path / "m" / "a" / "x.safetensors", "--rule", "*:w=int8").code == 2


def test_a_whole_checkpoint_is_no_array(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"blk[0].w": weights(8, 8), "blk0.w": weights(8)})
    array = tmp_path / "data.npy"
    np.save(array, weights(8, 8))
    assert bale("compress", source).code == 0
    assert bale("compress", array).code == 0
    bale("decompress", f"{source}.bale", "-o", tmp_path / "x.npy").failed(2, "would be a whole checkpoint")
    assert bale("decompress", f"{array}.bale", "-o", tmp_path / "back.npy").code == 0  # opaque: it is one
    assert bale("decompress", f"{source}.bale", "--tensor", "blk[0].w", "-o", tmp_path / "x.npy").code == 0
    assert np.load(tmp_path / "x.npy").shape == (8, 8)


def test_the_worst_tensor_of_a_folder_is_named_by_its_file(bale: Bale, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name, scale in (("a", 1), ("b", 3)):
        array = weights(64, 64, seed=scale)
        array[0, 0] = scale  # an outlier, which costs the others
        write(tmp_path / "m" / f"{name}.safetensors", {"w": array})
    lossy = bale("compress", tmp_path / "m", "-p", "int4", "--json").result["totals"]["lossy"]
    assert lossy["worst_tensor"] in ("a.safetensors:w", "b.safetensors:w")
