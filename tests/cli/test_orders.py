"""Names never become orders to a runner of CI jobs, nor break lines, whatever is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bale.cli import render
from tests.cli.conftest import Bale
from tests.making import weights, write
from tests.soak import few

NAMES = [
    "::add-mask::secret",
    "##vso[task.setvariable variable=PATH]/tmp/x",
    "a\u2028::debug::x",
    "e\n::debug::x",
    "  ::stop-commands::t",
    "\t::error file=a::b",
    "\u00a0::warning::x",
    "a##[group]b",
    "####[x]",
    "##teamcity[buildStatus text='x']",
    "b\u2029::debug::x",
    "c\u0085::debug::x",
    "d\r::debug::x",
    "f\v::debug::x",
    "g\u202e\u2066::h",
]
_WORKER = re.compile(r"##[^\s\[]*\[")  # as Azure, TeamCity and GitHub's older syntax have it


def obeyed(text: str) -> list[str]:
    """Lines that a runner would obey; it knows all line breaks."""
    return [line for line in text.splitlines() if line.strip().startswith("::") or _WORKER.search(line)]


def test_the_test_knows_orders() -> None:
    assert all(obeyed(name) for name in NAMES[:-1])
    assert not any(obeyed(render.harmless(name)) for name in NAMES)


def test_no_name_of_many_is_obeyed(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {name: weights(64, 64, seed=n) for n, name in enumerate(NAMES)})
    lossy = ["compress", "-p", "int8", "-o", tmp_path / "m.bale"]
    for verb, *more in (["inspect"], ["plan", "-p", "svd:rank=60"], lossy, ["compare", tmp_path / "m.bale"]):
        said = bale(verb, source, *more)
        assert said.code == 0, said
        assert obeyed(said.out) == obeyed(said.err) == [], verb
        assert verb == "compress" or len(said.out.splitlines()) > len(NAMES), verb


@pytest.mark.parametrize("name", few(NAMES, 4))
def test_no_name_is_obeyed(bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(render, "HEARTBEAT", 0)
    monkeypatch.chdir(tmp_path)
    folder = name.replace("/", "_")
    source = write(tmp_path / f"{folder}.safetensors", {name: weights(64, 64), f"{name}2": weights(8)})
    other = write(tmp_path / "other", {name: weights(64, 64, seed=5), f"{name}2": weights(8)})
    archive = f"{source.name}.bale"
    for command in (
        ["inspect", source.name],
        ["inspect", source.name, "--floor"],
        ["plan", source.name, "-p", "int4"],
        ["plan", source.name, "-p", "svd:rank=60"],
        ["compress", source.name, "-p", "int4"],
        ["compress", source.name],
        ["inspect", archive],
        ["compare", source.name, archive],
        ["compare", source.name, other.name],
        ["compare", source.name, archive, "--max-error", "0"],
        ["verify", archive],
        ["verify", archive, "--against", other.name],
        ["decompress", archive, "-o", f"{folder}.out"],
        ["decompress", archive, "--tensor", name, "-o", "x"],
        ["decompress", archive, "--tensor", f"{name}3", "-o", "y"],
        ["inspect", f"{folder}.none"],
        ["compress", source.name, "--rule", f"{name}=int8", "--rule", f"{name}4=int8", "-f"],
        ["codecs", name],
        ["compress", source.name, "-p", name, "-f"],
        ["compress", source.name, "-r", f"{folder}.toml"],
        [name],
        ["inspect", f"--{name}"],
    ):
        said = bale(*command)
        assert said.code != 1, said
        assert obeyed(said.out) == obeyed(said.err) == [], command
        document = bale(*command, "--json")
        assert obeyed(document.out) == obeyed(document.err) == [], command
        assert isinstance(document.json, dict)
    rows = bale("inspect", source.name, "--json").result["tensors"]
    assert [row["name"] for row in rows] == [name, f"{name}2"]  # in JSON every name comes back as it is


def test_escaped_names_can_still_be_read() -> None:
    assert render.harmless("::add-mask::x") == r"\::add-mask::x"
    assert render.harmless("  ::x") == r"  \::x"
    assert render.harmless("a ##vso[x]y") == r"a #\u0023vso[x]y"
    assert render.harmless("a::b # ## c [d]") == "a::b # ## c [d]"
    assert render.harmless("a\u2028b\u202ec\u0085d\r\ne") == "a\ufffdb\ufffdc\ufffdd\ufffd\ufffde"
    assert render.harmless("層.重み é") == "層.重み é"


def test_a_traceback_is_harmless_too(bale: Bale, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bale import api

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("x\n::set-env name=PATH::y\n##vso[z]\x1b[2J")

    monkeypatch.setattr(api, "inspect", broken)
    said = bale("inspect", tmp_path)
    assert said.code == 1
    assert "Traceback" in said.err
    assert "\x1b" not in said.err
    assert obeyed(said.err) == []
