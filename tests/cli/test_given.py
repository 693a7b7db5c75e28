"""Several sources in one command: all are tried, each has its place, and what is no source is passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bale.cli.given import Chosen, Given, Place, places
from bale.errors import UsageError
from tests.cli.conftest import Bale
from tests.making import names_in, sha256, weights, write


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of one file name, from whose folder commands are given."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        write(tmp_path / "zoo" / name / "model.safetensors", {"w": weights(64, 64, seed=number)})
    return tmp_path


def test_several_sources(bale: Bale, tmp_path: Path) -> None:
    sources = [write(tmp_path / f"{n}.safetensors", {"w": weights(64, 64, seed=n)}) for n in range(3)]
    out = tmp_path / "out"
    bale("compress", *sources, "-o", sources[0]).failed(6, "is not a folder")
    bale("compress", *sources, "--report", tmp_path / "r.json").failed(2, "--report")
    said = bale("compress", *sources, "-o", out, "--json")
    assert said.code == 0
    assert [each["archive"]["name"] for each in said.json["results"]] == [f"{n}.safetensors.bale" for n in range(3)]
    archives = [out / f"{n}.safetensors.bale" for n in range(3)]
    assert names_in(out) == sorted([path.name for path in archives] + [f"{path.name}.report.json" for path in archives])
    back = tmp_path / "back"
    back.mkdir()
    bale("decompress", *archives, "--tensor", "w", "-o", back / "x").failed(2, "--tensor")
    assert bale("decompress", *archives, "-o", back, "-q").code == 0
    assert [sha256(back / path.name) for path in sources] == [sha256(path) for path in sources]
    assert len(bale("verify", *archives, "--json").json["results"]) == 3
    assert len(bale("inspect", *archives, *sources, "--json").json["results"]) == 6
    bale("verify", *archives, "--against", sources[0]).failed(2, "--against")


def test_all_sources_are_tried_and_the_first_failure_counts(bale: Bale, tmp_path: Path) -> None:
    good = [write(tmp_path / f"{n}.safetensors", {"w": weights(64, 64)}) for n in range(2)]
    (tmp_path / "1.safetensors.bale").write_text("in the way")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    said = bale("compress", empty, good[0], tmp_path / "missing", good[1], "--json")
    assert said.code == 3
    results = said.json["results"]
    assert [each.get("error", {}).get("code") for each in results] == [3, None, 3, 6]
    assert results[0]["name"] == str(empty)
    assert len(said.err.splitlines()) == 3
    assert (tmp_path / "0.safetensors.bale").is_file()
    assert (tmp_path / "1.safetensors.bale").read_text() == "in the way"
    assert said.json["summary"] == {
        "done": 1,
        "skipped": 0,
        "failed": 3,
        "passed_over": [],
        "bytes_before": good[0].stat().st_size,
        "bytes_after": (tmp_path / "0.safetensors.bale").stat().st_size,
    }


def test_a_last_line_counts(bale: Bale, zoo: Path) -> None:
    sources = ["zoo/a/model.safetensors", "zoo/b/model.safetensors", "zoo/none"]
    said = bale("compress", *sources)
    assert said.code == 3
    assert said.out.splitlines()[-1].startswith("2 done, 1 failed: 32.9 kB -> ")
    assert said.out.endswith(" %)\n")
    said = bale("compress", *sources[:2], "--skip-existing")
    assert said.out.splitlines()[-1].startswith("2 there already: 32.9 kB -> ")
    archives = [f"{name}.bale" for name in sources]
    assert bale("verify", *archives).out.splitlines()[-1].startswith("2 sound, 1 failed: ")
    assert bale("decompress", *archives, "-f").out.splitlines()[-1].startswith("2 done, 1 failed: ")
    assert bale("inspect", *archives).out.splitlines()[-1] == "2 done, 1 failed"
    assert "done" not in bale("inspect", archives[0]).out
    assert bale("verify", *archives, "-q").out == ""


def test_an_unexpected_failure_is_that_of_one_source(bale: Bale, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bale import api

    honest = api.compress

    def hungry(source: Path, *rest: object, **more: object) -> object:
        if "a" in source.parts:
            raise MemoryError
        return honest(source, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "compress", hungry)
    said = bale("compress", "zoo/a/model.safetensors", "zoo/b/model.safetensors")
    assert said.code == 1
    assert said.err.startswith("bale: error: zoo/a/model.safetensors: there is not enough memory")
    assert said.out.splitlines()[-1].startswith("1 done, 1 failed")


def test_choices_that_make_no_sense_are_of_no_source(bale: Bale, zoo: Path) -> None:
    for choice, code in ((["-p", "itn4"], 2), (["--rule", "x"], 2), (["-r", "none"], 3), (["--base", "none"], 3)):
        said = bale("compress", "zoo/a/model.safetensors", "zoo/b/model.safetensors", *choice, "--json")
        assert said.code == code
        assert said.json.keys() == {"error"}
        assert len(said.err.splitlines()) == 1


def test_a_rule_that_matches_nothing_in_one_source(bale: Bale, zoo: Path) -> None:
    write(zoo / "other.safetensors", {"v": weights(64, 64)})
    said = bale("compress", "zoo/a/model.safetensors", "other.safetensors", "--rule", "v=int8", "--json")
    assert said.code == 2
    assert [each["code"] for each in said.json["results"]] == [2, 0]
    assert "zoo/a/model.safetensors: --rule 1: v=int8 matches no tensor" in said.err


def test_sources_of_one_name_keep_their_folders(bale: Bale, zoo: Path) -> None:
    sources = ["zoo/a/model.safetensors", "zoo/b/model.safetensors"]
    assert bale("compress", *sources, "-o", "out/", "-q").code == 0
    archives = [f"out/{name}/model.safetensors.bale" for name in "ab"]
    assert bale("decompress", *archives, "-o", "back/", "-q").code == 0
    for name in "ab":
        assert sha256(Path(f"back/{name}/model.safetensors")) == sha256(zoo / "zoo" / name / "model.safetensors")
    assert names_in(zoo / "out" / "a") == ["model.safetensors.bale", "model.safetensors.bale.report.json"]
    assert bale("compress", *sources, "-o", "lossy/", "-p", "int8", "-q").code == 0
    assert (zoo / "lossy" / "b" / "model.lossy.safetensors.bale").is_file()


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["zoo/a/m", "zoo/b/m"], ["a", "b"]),
        (["zoo/a/m", "zoo/b/n"], ["", ""]),
        (["zoo/a/m", "zoo/b/m", "n"], ["a", "b", "."]),
        (["/x/a/m", "/y/a/m"], ["x/a", "y/a"]),
        (["/m", "/y/m"], ["", "y"]),
        (["../m", "m"], ["..", "."]),
        (["a/x.bale", "b/x"], ["a", "b"]),
    ],
)
def test_the_shortest_ends_that_tell_paths_apart(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, names: Sequence[str], folders: Sequence[str]
) -> None:
    sources = [Given(name, Path(name)) for name in names]
    found = places(Chosen(tuple(sources), several=True), Given("out/", Path("out")))
    here = {"..": zoo.parent.name, ".": zoo.name}
    assert [found[each] for each in sources] == [Place(into=Path("out", here.get(each, each))) for each in folders]


def test_a_path_that_comes_twice_is_worked_on_once(bale: Bale, zoo: Path) -> None:
    said = bale("compress", "zoo/a/model.safetensors", "zoo/b/../a/model.safetensors", "--json")
    assert said.code == 0
    assert [each["name"] for each in said.json["results"]] == ["zoo/a/model.safetensors"]
    assert "1 path given twice" in said.err


def test_names_are_those_that_were_typed(bale: Bale, zoo: Path) -> None:
    said = bale("inspect", "./zoo/a/model.safetensors", "zoo/b/", "--json")
    assert [each["name"] for each in said.json["results"]] == ["./zoo/a/model.safetensors", "zoo/b/"]
    assert [each["code"] for each in said.json["results"]] == [0, 0]


def test_by_products_are_passed_over(bale: Bale, zoo: Path) -> None:
    source = shutil.copy("zoo/a/model.safetensors", "m.safetensors")
    shutil.copy(source, "n.safetensors")
    assert bale("compress", "m.safetensors", "zoo/a", "-q").code == 0
    shutil.move("zoo/a.bale", "a.bale")
    (zoo / "eval.report.json").write_text('{"a": 1}')  # is none of bale's
    said = bale("compress", "m.safetensors", "n.safetensors", *sorted(map(str, zoo.glob("*.bale*"))), "--skip-existing")
    assert said.code == 0
    assert "note: 3 by-products of earlier work passed over: such as " in said.err
    assert said.out.splitlines()[-1].startswith("1 done, 1 there already, 3 by-products passed over: ")
    said = bale("compress", "m.safetensors.bale", "a.bale", "--json")  # nothing else is left
    assert (said.code, said.json["results"]) == (0, [])
    assert said.json["summary"]["passed_over"] == ["m.safetensors.bale", "a.bale"]
    bale("compress", "m.safetensors.bale").failed(3, "is a bale archive already")
    said = bale("verify", "m.safetensors.bale", "m.safetensors.bale.report.json", "a.bale", "--json")
    assert said.json["summary"]["passed_over"] == ["m.safetensors.bale.report.json"]
    assert (said.code, said.json["summary"]["done"]) == (0, 2)
    said = bale("compress", "m.safetensors", "eval.report.json", "-f", "--json")
    assert [each["source"]["kind"] for each in said.json["results"]] == ["safetensors", "opaque"]


# The folder that a result goes into.


@pytest.mark.parametrize("out", ["out", "out/", "new/", "new/er/", "link", ".", "./"])
def test_a_folder_is_where_results_go(bale: Bale, zoo: Path, out: str) -> None:
    (zoo / "out").mkdir()
    (zoo / "link").symlink_to("out")
    name = "model.safetensors"
    source = f"zoo/a/{name}"
    assert bale("compress", source, "-o", out, "-q").code == 0
    assert bale("compress", source, "-o", out, "-p", "int8", "-q").code == 0
    place = Path(out)
    expected = {f"{name}.bale", f"{name}.bale.report.json"}
    assert expected | {f"model.lossy.{name[6:]}.bale"} <= set(names_in(place))
    bale("compress", source, "-o", out).failed(6, f"{name}.bale exists already")
    assert bale("decompress", place / f"{name}.bale", "-o", "back/", "-q").code == 0
    assert sha256(zoo / "back" / name) == sha256(zoo / source)
    assert bale("decompress", place / f"{name}.bale", "-o", out, "-q").code == 0
    assert sha256(place / name) == sha256(zoo / source)


def test_a_source_folder_goes_into_a_folder(bale: Bale, zoo: Path) -> None:
    (zoo / "empty").mkdir()
    for out in ("empty", "new/"):
        assert bale("compress", "zoo/a", "-o", out, "-q").code == 0
        assert sorted(os.listdir(out)) == ["a.bale", "a.bale.report.json"]
    os.remove("new/a.bale.report.json")
    assert bale("compress", "zoo/a", "-o", "new/a.bale", "-q").code == 0  # of which only the report is made
    assert sorted(os.listdir("new")) == ["a.bale", "a.bale.report.json"]
    bale("compress", "zoo/a", "-o", "new/a.bale/").failed(6, "exists already")
    assert bale("compress", "zoo/a", "-o", "new/a.bale/", "-f", "-q").code == 0
    assert sorted(os.listdir("new")) == ["a.bale", "a.bale.report.json"]
    assert bale("decompress", "new/a.bale", "-o", "back", "-q").code == 0
    assert bale("decompress", "new/a.bale", "-o", "back/", "-q").code == 0
    assert names_in(zoo / "back") == ["a", "a/model.safetensors", "model.safetensors"]


def test_a_folder_that_was_interrupted_is_continued(bale: Bale, zoo: Path) -> None:
    from bale.io.folders.record import Progress

    (zoo / "out").mkdir()
    with pytest.raises(ZeroDivisionError), Progress(zoo / "out", {}):
        raise ZeroDivisionError
    assert bale("compress", "zoo/a", "-o", "out", "-q").code == 0
    assert "model.safetensors.bale" in names_in(zoo / "out")


def test_a_folder_that_was_made_for_nothing_goes_away(bale: Bale, zoo: Path) -> None:
    (zoo / "broken.safetensors").write_bytes(b"{}")
    bale("compress", "broken.safetensors", "-o", "new/er/").failed(3)
    bale("compress", "zoo/a/model.safetensors", "-o", "new/er/", "--rule", "x=int8").failed(2)
    bale("decompress", "broken.safetensors", "-o", "new/er/").failed(4)
    assert not (zoo / "new").exists()
    (zoo / "file").touch()
    bale("compress", "zoo/a/model.safetensors", "-o", "file/").failed(6, "cannot make the folder file")


def test_a_path_without_a_text_is_none() -> None:
    from bale.cli.given import to_path

    for text in ("", "a\0b"):
        with pytest.raises(UsageError):
            to_path(text)


def test_the_base_among_sources_is_passed_over(bale: Bale, zoo: Path) -> None:
    shutil.copy("zoo/a/model.safetensors", "base.safetensors")
    shutil.copy("zoo/a/model.safetensors", "tuned.safetensors")
    command = ["compress", "base.safetensors", "tuned.safetensors", "--base", "base.safetensors"]
    said = bale(*command, "-o", "out")
    assert said.code == 0
    assert said.err == "bale: note: base.safetensors is the base, and passed over\n"
    assert said.out.splitlines()[-1].startswith("1 done: ")
    assert names_in(zoo / "out") == ["tuned.safetensors.bale", "tuned.safetensors.bale.report.json"]  # it is a folder


def test_an_archive_and_its_source_do_not_lengthen_the_place(bale: Bale, zoo: Path) -> None:
    shutil.copy("zoo/a/model.safetensors", "m.safetensors")
    assert bale("compress", "m.safetensors", "-q").code == 0
    assert bale("decompress", "m.safetensors", "m.safetensors.bale", "-o", "back/").code == 4
    assert sha256(zoo / "back" / "m.safetensors") == sha256(zoo / "m.safetensors")


def test_an_error_names_its_source_once(bale: Bale, zoo: Path) -> None:
    for name in ("w", "none"):
        write(zoo / name, {"v": weights(64, 64)})
    said = bale("compress", "w", "none", "missing", "--rule", "x=int8")
    assert [line.split(": ")[2] for line in said.err.splitlines()] == [
        "w",
        "none",
        "cannot read missing",
    ], said.err


def test_notes_of_several_sources_have_their_names(bale: Bale, tmp_path: Path) -> None:
    sources = [write(tmp_path / f"{name}.safetensors", {"bias": weights(8)}) for name in "ab"]
    said = bale("compress", *sources, "-p", "int8")
    notes = [line for line in said.err.splitlines() if "touches no tensor" in line]
    assert [line.partition(": -p")[0] for line in notes] == [f"bale: note: {source}" for source in sources]
    assert bale("compress", sources[0], "-p", "int8", "-f").err.startswith("bale: note: -p int8 touches no tensor")
