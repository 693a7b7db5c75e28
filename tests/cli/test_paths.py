"""Paths of every kind, wherever a path can stand: never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import weights, write

PATHS = {
    "the working folder": ".",
    "the folder above": "..",
    "a link to itself": "loop",
    "below a link to itself": "loop/x",
    "a long name": "x" * 300,
    "a long name of a folder": "x" * 300 + "/",
    "a long path": "x/" * 3000,
    "below a file": "m.safetensors/x",
    "a file as a folder": "m.safetensors/",
    "an archive as a folder": "m.safetensors.bale/",
    "a home": "~/none",
    "a folder": "model/",
    "a compressed folder": "model.bale/",
    "a link to a folder": "linked",
    "a link to nothing": "dangling",
    "below nothing": "none/x",
    "a pipe": "pipe",
    "a device": "/dev/null",
    "no UTF-8": "\udcff",
    "a line break": "a\nb",
    "a zero byte": "a\0b",
    "suffix alone": ".bale",
    "an option": "-o",
}
COMMANDS = [
    "compress m.safetensors -o X",
    "compress model -o X -f",
    "compress model m.safetensors -o X --skip-existing",
    "compress m.safetensors -o n.bale --report X",
    "compress X -o out/",
    "compress m.safetensors --base X -o n.bale",
    "decompress m.safetensors.bale -o X",
    "decompress m.safetensors.bale -o X --skip-existing",
    "decompress model.bale -o X",
    "decompress model.bale m.safetensors.bale -o X -f",
    "decompress m.safetensors.bale --tensor w -o X",
    "decompress X -o out/",
    "plan m.safetensors --save X",
    "inspect X",
    "verify X",
    "verify m.safetensors.bale --against X",
    "compare X m.safetensors",
]


@pytest.mark.parametrize("case", PATHS)
def test_no_path_ends_in_a_traceback(bale: Bale, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "in" / "here"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    write(inside / "m.safetensors", {"w": weights(64, 64)})
    (inside / "model").mkdir()
    shutil.copy("m.safetensors", "model")
    for source in ("m.safetensors", "model"):
        assert bale("compress", source, "-q").code == 0
    os.symlink("loop", "loop")
    os.symlink("model", "linked")
    os.symlink("nowhere", "dangling")
    os.mkfifo("pipe")
    for command in COMMANDS:
        words = [PATHS[case] if word == "X" else word for word in command.split()]
        if case == "a zero byte":
            bale(*words).failed(2, "a zero byte")
            continue
        said = bale(*words)
        assert said.code in (0, 2, 3, 4, 6), (words, said)
        assert "Traceback" not in said.err, words
        assert all(line.startswith(("bale: ", "  ")) for line in said.err.splitlines()), words
        if said.code in (2, 3, 4) and len(words) < 6:
            first, *others = said.err.splitlines()
            assert first.startswith("bale: error: "), words
            assert all(line.startswith("bale:   note: ") for line in others), words


def test_a_report_that_is_a_folder(bale: Bale, model: Path) -> None:
    bale("compress", model, "--report", model.parent).failed(6, "is a folder", "name a file")


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    gone = tmp_path / "gone"
    gone.mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); from bale.cli.app import run; sys.exit(run(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for path, code, word in ((source, 0, b""), ("m.safetensors", 3, b"the working folder does not exist any more")):
        done = subprocess.run(
            [sys.executable, "-c", script, "compress", str(path)],
            cwd=gone,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (code, code and 1), done.stderr
        assert word in done.stderr
        gone.mkdir(exist_ok=True)
