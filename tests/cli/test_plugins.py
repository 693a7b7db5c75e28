"""Codecs of other packages on the command line: listed, used, and said to be missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bale.compressors import plugins, registry
from tests.cli.conftest import Bale
from tests.compressors.test_plugins import CODE
from tests.conftest import Install, look_again


def test_they_are_listed_with_their_packages(bale: Bale, install: Install) -> None:
    own = bale("codecs", "--json").json
    install("bale-flip", CODE, flip="Flip")
    install("bale-broken", "1 / 0", broken="Broken")
    said = bale("codecs")
    assert said.code == 0
    assert "Bytes with all bits turned. (from bale-flip 1.2)" in said.out
    (note,) = said.err.splitlines()
    assert note.startswith("bale: note: the codec 'broken' of bale-broken 1.2 cannot be used (ZeroDivisionError: ")
    rows = bale("codecs", "--json").json
    assert rows[:-1] == own
    assert (rows[-1]["name"], rows[-1]["package"]) == ("flip", "bale-flip 1.2")
    assert "(from bale-flip 1.2)" in bale("codecs", "flip").out
    bale("codecs", "broken").failed(2, "bale-broken 1.2", "ZeroDivisionError")


def test_nothing_is_searched_where_nothing_is_missing(bale: Bale, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading what is installed takes longer than the help does."""
    look_again()
    archive = f"{model}.bale"
    for order in (
        ["--help"],
        ["--version"],
        ["codecs", "int"],
        ["plan", model, "-p", "int4/exact"],
        ["compress", model],
        ["verify", archive],
        ["inspect", archive],
        ["decompress", archive, "-f"],
    ):
        assert bale(*order).code == 0
        assert plugins.claims.cache_info().misses == 0, order
    assert bale("codecs").code == 0
    assert plugins.claims.cache_info().misses == 1


def test_a_clash_is_an_error(bale: Bale, install: Install, model: Path) -> None:
    install("one", CODE, flip="Flip")
    install("two", CODE, flip="Flip")
    for order in (
        ["codecs"],
        ["codecs", "flip"],
        ["compress", model, "-p", "int8+flip"],
        ["plan", model, "-p", "flip"],
    ):
        bale(*order).failed(2, "one 1.2", "two 1.2")
    assert bale("plan", model, "-p", "int8").code == 0


def test_archives_need_the_codecs_that_made_them(bale: Bale, install: Install, model: Path, tmp_path: Path) -> None:
    site = install("bale-flip", CODE, flip="Flip")
    archive, out = tmp_path / "flip.bale", tmp_path / "out.safetensors"
    assert bale("compress", model, "-p", "int8+flip", "-o", archive).code == 0
    assert bale("verify", archive).code == 0
    (site / "bale_flip.py").write_text("raise ImportError('gone')")
    look_again("bale_flip")
    bale("verify", archive).failed(4, "'flip' of bale-flip 1.2 cannot be used (ImportError: gone)")
    shutil.rmtree(site)
    look_again("bale_flip")
    for order in (
        ["verify", archive],
        ["decompress", archive, "-o", out],
        ["compare", model, archive],
        ["inspect", archive],
    ):
        bale(*order).failed(4, str(archive), "uses the codec 'flip', which is not installed; install the package")
    assert not out.exists()


def test_a_newer_version_of_a_codec_needs_a_newer_package(
    bale: Bale, install: Install, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bale-flip", CODE, flip="Flip")
    archive = tmp_path / "flip.bale"
    monkeypatch.setattr(registry.get("flip"), "version", 2)
    assert bale("compress", model, "-p", "int8+flip", "-o", archive).code == 0
    monkeypatch.setattr(registry.get("flip"), "version", 1)
    bale("verify", archive).failed(
        4, "version 2 of the codec 'flip', newer than that of bale-flip 1.2; upgrade bale-flip"
    )
