"""`bale advise`: what it prints, in terminals of any width and as JSON, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from bale.cli import advise
from bale.cli.app import run
from bale.cli.render import columns
from tests.cli.conftest import Bale
from tests.making import names_in, weights, write

KEYS = ["source", "for", "threads", "kinds", "dtypes", "findings", "low_rank", "choices", "bandwidth", "transfer"]
KEYS += ["layers", "notes", "advice"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    signs = np.sign(weights(128, 1, seed=1) @ weights(1, 128, seed=2)).astype("<f4")
    return write(
        tmp_path / "model.safetensors",
        {
            "layers.1.weight": weights(256, 256, seed=1),
            "embeddings.position_embeddings.weight": signs + 10 * weights(128, 128, seed=3),
            "layers.1.bias": weights(256, seed=2),
        },
    )


@pytest.mark.parametrize("purpose", ["storage", "transfer", "inference"])
def test_json(bale: Bale, checkpoint: Path, purpose: str) -> None:
    before = names_in(checkpoint.parent)
    found = bale("advise", checkpoint, "--for", purpose, "--json", "-T", 1).json
    assert list(found) == KEYS
    assert found["source"] == {"name": checkpoint.name, "kind": "safetensors", "bytes": checkpoint.stat().st_size}
    assert found["threads"] == 1
    assert found["choices"][0]["options"] == ""
    assert found["choices"][0]["relative_error"] == 0.0
    assert (found["bandwidth"] is None) == (purpose != "transfer")
    assert bool(found["transfer"]) == bool(found["layers"]) == (purpose == "transfer")
    assert {"-p int8", "-p int4"} <= {row["options"] for row in found["choices"]} or purpose != "inference"
    assert found["advice"]
    assert names_in(checkpoint.parent) == before


@pytest.mark.parametrize("purpose", ["storage", "transfer", "inference"])
def test_advice_is_a_command_that_works(
    bale: Bale, checkpoint: Path, purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        bale("advise", checkpoint, "--for", purpose, "--bandwidth", "1kB")
        if purpose == "transfer"
        else bale("advise", checkpoint, "--for", purpose)
    )
    text = said.out.replace("\\\n", "")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("  bale compress ")]
    assert commands
    for number, (program, *arguments) in enumerate(commands):
        assert program == "bale"
        assert bale(*arguments, "-o", checkpoint.parent / f"{number}.bale").code == 0


@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminals(bale: Bale, checkpoint: Path, width: int) -> None:
    found = bale("advise", checkpoint, "--for", "transfer", "--bandwidth", "1kB", "--json").json
    lines = list(advise.lines(found, "m.safetensors", width))
    commands = [line for line in lines if line.lstrip().startswith(("bale compress m", "--rule"))]
    assert max(columns(line) for line in lines if line not in commands) <= width
    assert "low rank: may pay" in "\n".join(lines)
    text = " ".join(" ".join(lines).split())
    for word in ("weights", "lossless", "--bits 4.5", "in two steps", "Risk:", "evaluate"):
        assert word in text


def test_low_rank_is_a_rule_on_a_line_of_its_own(bale: Bale, checkpoint: Path) -> None:
    out = bale("advise", checkpoint).out
    rule = "--rule embeddings.position_embeddings.weight=svd:rank=auto+int8/trellis:bits=3"
    assert f"--bits 4.5 \\\n      {rule}\n" in out


def test_names_are_shown_without_harm(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"\x1b[31m\nw": weights(64, 64).astype("<f2").astype("<f4")})
    said = bale("advise", source)
    assert "\x1b" not in said.out
    assert "held exactly by F16" in said.out


def test_notes_say_why_nothing_can_be_lossy(bale: Bale, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "m.npz", w=weights(64, 64))
    found = bale("advise", tmp_path / "m.npz")
    assert "an npz file whose members are all compressed" in found.err
    assert "low rank" not in found.out


def test_quiet_and_folders(bale: Bale, checkpoint: Path) -> None:
    assert bale("advise", "-q", checkpoint).out == ""
    other = write(checkpoint.with_name("other.safetensors"), {"o": weights(64, 64)})
    both = bale("advise", checkpoint.parent, "--json").json
    one = bale("advise", checkpoint.parent, "--json", "--exclude", "other*").json
    assert (both["source"]["kind"], both["kinds"][0]["tensors"]) == ("folder", 3)
    assert both["source"]["bytes"] - one["source"]["bytes"] == other.stat().st_size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "speed"], ["speed", "storage, transfer, inference"]),
        (["--for", "transfer", "--bandwidth", "fast"], ["--bandwidth fast", "100Mbit"]),
        (["--bandwidth", "1Gbit"], ["--bandwidth", "--for transfer"]),
        (["--include", "x"], ["--include"]),
    ],
)
def test_what_is_refused(bale: Bale, checkpoint: Path, arguments: list[str], words: list[str]) -> None:
    bale("advise", checkpoint, *arguments).failed(2, *words)


def test_what_cannot_be_read(bale: Bale, tmp_path: Path) -> None:
    bale("advise", tmp_path / "none.safetensors").failed(3, "no such file")


def test_a_checkpoint_of_nothing(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {})
    said = bale("advise", source, "--for", "transfer")
    assert said.code == 0
    assert "no tensors" in said.out
    assert json.loads(bale("advise", source, "--json").out)["kinds"] == []


def test_the_document_is_json_whatever_the_values(bale: Bale, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"z": np.zeros((128, 64), "<f4"), "n": np.full((64, 64), np.nan, "<f4")})
    assert run(["advise", str(source), "--json", "-q"]) == 0
