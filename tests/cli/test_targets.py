"""Where results may go, and several sources in one command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import names_in, sha256, weights, write


@pytest.fixture
def archive(bale: Bale, model: Path) -> Path:
    assert bale("compress", model, "-q").code == 0
    return model.with_name("model.safetensors.bale")


def _verbs(model: Path) -> list[list[object]]:
    return [["compress", model], ["decompress", model.with_name("model.safetensors.bale")]]


def test_an_output_that_exists(bale: Bale, model: Path, archive: Path) -> None:
    before = {name: sha256(model.parent / name) for name in names_in(model.parent)}
    bale("compress", model).failed(6, "exists already", "-f")
    bale("decompress", archive).failed(6, "exists already", "-f")
    bale("decompress", archive, "--tensor", "*", "-o", model).failed(6, "exists already")
    assert before == {name: sha256(model.parent / name) for name in names_in(model.parent)}
    assert bale("compress", model, "-f", "-q").code == 0
    assert bale("decompress", archive, "--force", "-q").code == 0
    assert before == {name: sha256(model.parent / name) for name in names_in(model.parent)} | {
        name: digest for name, digest in before.items() if name.endswith(".json")
    }


def test_out_is_looked_at_before_the_report(bale: Bale, model: Path) -> None:
    out, folder = model.with_name("m.bale"), model.with_name("folder")
    out.write_text("mine")
    bale("compress", model, "-o", out, "--report", model).failed(6, "m.bale exists already")
    folder.mkdir()
    write(folder / "m.safetensors", {"w": weights(8)})
    bale("compress", folder, "-o", model.parent / "none" / "out").failed(6, "none/out:")


def test_a_report_that_exists(bale: Bale, model: Path) -> None:
    report = model.with_name("r.json")
    report.write_text("mine")
    bale("compress", model, "--report", report).failed(6, "r.json exists already")
    assert report.read_text() == "mine"
    assert names_in(model.parent) == ["model.safetensors", "r.json"]


def test_the_report_must_not_be_archive_or_source(bale: Bale, model: Path) -> None:
    out = model.with_name("m.bale")
    indirect = model.parent / "sub" / ".." / "m.bale"
    (model.parent / "sub").mkdir()
    bale("compress", model, "-o", out, "--report", out).failed(2, "that is the archive")
    bale("compress", model, "-o", out, "--report", indirect).failed(2, "that is the archive")
    bale("compress", model, "-f", "-o", out, "--report", model).failed(6, "it is the input")
    assert names_in(model.parent) == ["model.safetensors", "sub"]


@pytest.mark.parametrize("force", [[], ["-f"]])
class TestTargets:
    """For either verb: the code is 6, the input stays what it is, and nothing new appears."""

    def refused(self, bale: Bale, model: Path, out: Path, word: str, force: list[str]) -> None:
        before = {name: _look(model.parent / name) for name in names_in(model.parent)}
        for verb in _verbs(model):
            bale(*verb, "-o", out, *force).failed(6, word)
        assert before == {name: _look(model.parent / name) for name in names_in(model.parent)}

    def test_a_link_to_a_file(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        (model.parent / "file").write_text("precious")
        (model.parent / "link").symlink_to("file")
        self.refused(bale, model, model.parent / "link", "symbolic link", force)

    def test_a_link_to_nothing(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        (model.parent / "link").symlink_to("nowhere")
        self.refused(bale, model, model.parent / "link", "symbolic link", force)

    def test_a_fifo(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        os.mkfifo(model.parent / "fifo")
        self.refused(bale, model, model.parent / "fifo", "not a regular file", force)

    def test_a_device(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        bale("decompress", archive, "-o", "/dev/null", *force).failed(6, "not a regular file")
        assert not Path("/dev/null").is_file()

    def test_the_input(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        for verb in _verbs(model):
            self.refused_as_input(bale, verb, Path(str(verb[1])), force)

    def test_a_link_to_the_input(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        for verb in _verbs(model):
            link = Path(f"{verb[1]}.link")
            link.symlink_to(Path(str(verb[1])).name)
            self.refused_as_input(bale, verb, link, force)

    def test_a_hard_link_of_the_input(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        for verb in _verbs(model):
            link = Path(f"{verb[1]}.hard")
            os.link(str(verb[1]), link)
            self.refused_as_input(bale, verb, link, force)

    def refused_as_input(self, bale: Bale, verb: list[object], out: Path, force: list[str]) -> None:
        before = sha256(out)
        bale(*verb, "-o", out, *force).failed(6, "it is the input")
        assert sha256(out) == before

    def test_a_folder_that_is_not_there(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        self.refused(bale, model, model.parent / "none" / "out", "no folder", force)

    def test_a_name_that_is_too_long(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        self.refused(bale, model, model.parent / ("x" * 300), "too long", force)

    def test_a_read_only_folder(
        self, bale: Bale, model: Path, archive: Path, force: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Permission bits do not bind root, hence the system's word is faked."""
        folder = model.parent / "locked"
        folder.mkdir()
        honest = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode, **more: False if Path(path) == folder else honest(path, mode, **more)
        )
        self.refused(bale, model, folder / "out", "read-only", force)

    @pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
    def test_a_folder_without_write_permission(self, bale: Bale, model: Path, archive: Path, force: list[str]) -> None:
        folder = model.parent / "locked"
        folder.mkdir(mode=0o555)
        self.refused(bale, model, folder / "out", "read-only", force)


def _look(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    return sha256(path) if path.is_file() else path.stat().st_mode


def test_a_read_only_target_is_replaced_with_force_only(bale: Bale, model: Path) -> None:
    out = model.with_name("out.bale")
    out.write_text("old")
    out.chmod(0o444)
    bale("compress", model, "-o", out).failed(6, "exists already")
    assert out.read_text() == "old"
    assert bale("compress", model, "-o", out, "-f", "-q").code == 0


def test_a_dash_is_refused_with_the_reason(bale: Bale, model: Path, archive: Path) -> None:
    bale("compress", model, "-o", "-").failed(2, "header is written last")
    bale("compress", "-").failed(2, "header is written last")
    bale("decompress", "-").failed(2)
    before = names_in(model.parent)
    bale("decompress", archive, archive, "-o", "-").failed(2, "-o -")
    bale("decompress", archive, "--tensor", "*", "-o", "-").failed(2, "-o -")
    bale("decompress", archive, "--skip-existing", "-o", "-").failed(2, "leave out --json, --tensor, --skip-existing")
    code = bale("decompress", archive, "-o", "-", "--json")
    assert code.code == 2
    assert "error" in code.json
    assert names_in(model.parent) == before


def test_a_dash_is_no_name_for_any_path(
    bale: Bale, model: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    before = names_in(model.parent)
    for option in ("--report", "--base", "--recipe", "--stats"):
        bale("compress", model, "-o", "k.bale", option, "-").failed(2, "`-` is refused", "name a file")
    for words in (
        ("plan", model, "--save", "-"),
        ("plan", "-"),
        ("inspect", "-"),
        ("verify", "-"),
        ("verify", archive, "--against", "-"),
        ("compare", model, "-"),
        ("decompress", archive, "--base", "-"),
        ("stats", "-", "--text", model),
        ("stats", model, "--text", model, "-o", "-"),
    ):
        bale(*words).failed(2, "`-` is refused")
    assert names_in(model.parent) == before
    assert bale("plan", model, "--save", "./-", "-q").code == 0
    assert (model.parent / "-").is_file()


@pytest.mark.parametrize("more", [[], ["-f"], ["--skip-existing"]])
def test_two_sources_that_would_get_one_archive(bale: Bale, tmp_path: Path, more: list[str]) -> None:
    """The second is too small for -p, so its archive is no lossy one."""
    sources = [tmp_path / "a.safetensors", tmp_path / "a.lossy.safetensors"]
    write(sources[0], {"large": weights(64, 64)})
    write(sources[1], {"small": weights(8)})
    said = bale("compress", *sources, "-p", "int8", "-o", f"{tmp_path}/o/", *more)
    assert said.code == 6
    assert f"a.lossy.safetensors.bale: it is the archive of {sources[0]}, made by the same command" in said.err
    (row,) = bale("inspect", tmp_path / "o" / "a.lossy.safetensors.bale", "--json").result["tensors"]
    assert row["name"] == "large"


def test_where_a_folder_of_archives_goes(bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "there").mkdir()
    write(tmp_path / "m" / "m.safetensors", {"w": weights(8)})
    monkeypatch.chdir(tmp_path)
    assert bale("compress", "m", "-q").code == 0
    assert bale("decompress", "m.bale", "-o", "there", "-q").code == 0
    assert names_in(tmp_path / "there") == ["m.safetensors"]
    bale("decompress", "m.bale", "-o", "there").failed(6, "end it in / (-o there/)", "use -f")
    assert bale("decompress", "m.bale", "-o", "there/", "-q").code == 0
    assert (tmp_path / "there" / "m" / "m.safetensors").is_file()
    bale("decompress", "m.bale", "-o", ".").failed(6, "end it in / (-o ./)")
    said = bale("decompress", "m.bale")
    assert said.code == 6
    assert "end it in" not in said.err


def test_default_names(bale: Bale, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert bale("compress", model.name, "-q").code == 0
    names = ["model.safetensors", "model.safetensors.bale", "model.safetensors.bale.report.json"]
    assert names_in(model.parent) == names
    json.loads((model.parent / names[2]).read_text())
    digest = sha256(model)
    model.unlink()
    assert bale("decompress", f"{model.name}.bale", "-q").code == 0
    assert sha256(model) == digest


def test_the_folder_one_stands_in(bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    write(here / "m.safetensors", {"w": weights(8)})
    monkeypatch.chdir(here)
    assert bale("compress", ".", "-q").code == 0
    assert (tmp_path / "here.bale" / "m.safetensors.bale").is_file()
    assert names_in(here) == ["m.safetensors"]
