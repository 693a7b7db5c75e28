"""The benches: the page that they write, and one section on one small tensor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import page
from bench.__main__ import main
from bench.common import ROOT
from bench.models import MINILM
from bench.section import NEEDS
from bench.sections import SECTIONS
from tests.making import weights, write

NAMES = [section.name for section in SECTIONS]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of checkpoints in which MiniLM is one matrix."""
    source = tmp_path / "models" / MINILM
    source.parent.mkdir(parents=True)
    write(source, {"encoder.layer.0.weight": weights(256, 256)})
    return tmp_path / "models"


def test_a_section_is_measured_and_the_others_stay(tmp_path: Path, models: Path) -> None:
    written = tmp_path / "page.md"
    before = {"sizes": "Some sizes.", "startup": "Some times.\n\n| a |\n| --- |", "quantization": "Old figures."}
    written.write_text(page.document(SECTIONS, before), encoding="utf-8")
    main(["--only", "quantization", "--models", str(models), "--page", str(written)])
    after = page.stored(written)
    assert list(after) == ["sizes", "quantization", "startup"]
    assert {name: after[name] for name in ("sizes", "startup")} == {name: before[name] for name in ("sizes", "startup")}
    assert "| `int4` | 4." in after["quantization"]
    assert "Reproduce: `.venv/bin/python -m bench --only quantization`" in after["quantization"]


def test_a_checkpoint_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"model\.safetensors is missing; fetch it with"):
        main(["--only", "quantization", "--models", str(tmp_path), "--page", str(tmp_path / "page.md")])
    assert not (tmp_path / "page.md").exists()


def test_quick_figures_do_not_come_into_the_page() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "startup", "--quick"])


def test_sections_have_names_of_their_own_and_known_needs() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(set(section.needs) <= set(NEEDS) for section in SECTIONS)


def test_the_page_and_the_makefile_know_these_sections_only() -> None:
    assert [name for name in NAMES if name in (found := page.stored(ROOT / "docs" / "benchmarks.md"))] == list(found)
    asked = re.findall(r"-m bench .*--only (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {name for line in asked for name in re.findall(r"\w+", line.replace("--only", ""))} <= set(NAMES)


def test_what_runs_beside_peers_needs_nothing_of_the_benches() -> None:
    """Modules that other virtual environments run import numpy and safetensors at most."""
    for module in ("coders", "deltas", "quantizers", "whole", "zipnn"):
        code = f"import sys, bench.peers.{module}\nassert not {{'bale', 'bench.common'}} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
