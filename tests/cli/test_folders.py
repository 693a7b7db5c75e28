"""What is said of a folder: the whole, the weights, and what is copied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import weights, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "m"
    made.mkdir()
    write(made / "model.safetensors", {"w": weights(500, 200)})
    (made / "vocab.txt").write_text("word " * 100_000)
    (made / "config.json").write_text("{}")
    return made


COPIED = "2 other files, 500.0 kB, copied as they are (largest vocab.txt, 500.0 kB)"


def test_compress_plan_and_inspect_say_the_same(bale: Bale, folder: Path) -> None:
    out = folder.with_name("out")
    said = bale("compress", folder, "-p", "int8", "-o", out)
    stored = sum(path.stat().st_size for path in out.rglob("*"))
    assert f"900.1 kB -> {stored / 1000:.1f} kB ({100 * stored / 900_082:.1f} %" in said.out
    archive = (out / "model.safetensors.bale").stat().st_size
    told = [f"  weights: 400.1 kB -> {archive / 1000:.1f} kB ({100 * archive / 400_080:.1f} %)", f"  {COPIED}"]
    assert said.out.splitlines()[1:3] == told
    below = [line.strip() for line in told]
    assert bale("inspect", out).out.splitlines()[-2:] == below
    assert bale("inspect", folder).out.splitlines()[-3:] == [
        f"{folder}: folder, 1 tensor, 900.1 kB",
        "weights: 400.1 kB",
        COPIED,
    ]
    planned = bale("plan", folder, "-p", "int8").out
    assert COPIED in planned
    assert re.search(rf"900.1 kB -> about {stored / 1000:.0f}\.\d kB", planned)


def test_totals_are_the_same_everywhere(bale: Bale, folder: Path) -> None:
    done = bale("compress", folder, "--json").result
    inspected, planned = bale("inspect", f"{folder}.bale", "--json").result, bale("plan", folder, "--json").json
    source = bale("inspect", folder, "--json").result
    assert inspected["totals"] == done["totals"]
    assert done["copied"] == inspected["copied"] == planned["copied"] == source["copied"]
    for key in ("original_bytes", "predicted_bytes"):
        found = done["totals"][key.replace("predicted", "stored")]
        assert planned["totals"][key] == pytest.approx(found, rel=0.01)
    assert planned["totals"]["overhead_bytes"] == pytest.approx(done["totals"]["overhead_bytes"], rel=0.1)


def test_one_file_that_is_copied_and_none(bale: Bale, folder: Path) -> None:
    said = bale("compress", folder, "--exclude", "config*")
    assert "  1 other file, 500.0 kB, copied as it is (vocab.txt)" in said.out
    assert "1 file, 2 B, left out by --exclude" in said.err
    only = bale("compress", folder, "--include", "*.safetensors", "-o", folder.with_name("o"))
    file = bale("compress", folder / "model.safetensors")
    for out in (only.out, file.out):
        assert "copied as" not in out
        assert "weights:" not in out


def test_a_config_that_names_bale(bale: Bale, folder: Path) -> None:
    (folder / "config.json").write_text('{"a": 1}')
    out = folder.with_name("out")
    marked = r"copied as they are \(largest vocab.txt, 500.0 kB\), but that config.json names bale"
    assert re.search(marked, bale("compress", folder, "--for", "transformers", "-o", out).out)
    assert re.search(marked, bale("inspect", out).out)
    assert bale("inspect", out, "--json").result["copied"]["marked"] == "config.json"


def test_patterns_without_a_match(bale: Bale, folder: Path) -> None:
    for verb in ("compress", "plan", "inspect"):
        bale(verb, folder, "--exclude", "*.bin").failed(2, "--exclude '*.bin' matches no file")
        bale(verb, folder / "model.safetensors", "--include", "*").failed(2, "is a file")
    assert "matches no file" in bale("compress", folder, "--exclude", "*.bin", "--allow-unmatched").err


def test_links_have_their_own_names(bale: Bale, folder: Path, tmp_path: Path) -> None:
    blobs, hub, out = tmp_path / "blobs", tmp_path / "hub", tmp_path / "out"
    for made in (blobs, hub, out):
        made.mkdir()
    for n in (1, 2):
        write(blobs / f"{n:064x}", {f"l{n}": weights(64, 64, seed=n)})
        (hub / f"part-{n}.safetensors").symlink_to(f"../blobs/{n:064x}")
    assert bale("compress", *sorted(hub.iterdir()), "-o", out).code == 0
    assert sorted(path.name for path in out.glob("*.bale")) == ["part-1.safetensors.bale", "part-2.safetensors.bale"]
    write(tmp_path / "tuned.safetensors", {"l1": weights(64, 64, seed=1) + weights(64, 64, seed=5) / 1000})
    assert bale("compress", tmp_path / "tuned.safetensors", "--base", hub / "part-1.safetensors").code == 0
    archive = (tmp_path / "tuned.safetensors.bale").rename(hub / "tuned.bale")
    assert bale("verify", archive).code == 0  # beside the base, which it finds by the name of the link
    (tmp_path / "latest").symlink_to(hub)
    assert bale("inspect", tmp_path / "latest", "--json").result["source"]["name"] == "latest"
