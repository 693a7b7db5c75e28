"""What only a process of its own shows: pipes, signals, encodings, terminals."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.making import names_in, sha256, weights, write

BALE = [sys.executable, "-m", "bale"]


def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [*BALE, *map(os.fsencode, map(str, arguments))]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def large_listing(tmp_path: Path) -> Path:
    """A checkpoint whose listing is longer than a pipe holds."""
    return write(tmp_path / "m.safetensors", {f"layer.{n}.weight": np.zeros(1, "<f4") for n in range(4000)})


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_had_enough(large_listing: Path, options: list[str]) -> None:
    command = [*BALE, "inspect", str(large_listing), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 6


def test_a_full_stdout(model: Path) -> None:
    assert call("compress", model, "-q").returncode == 0
    with open("/dev/full", "wb") as full:
        for arguments in (
            ["--help"],
            ["--version"],
            ["inspect", model],
            ["inspect", model, "--json"],
            ["decompress", f"{model}.bale", "-o", "-"],
        ):
            done = subprocess.run(
                [*BALE, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
            )
            assert done.returncode == 6
            assert len(done.stderr.splitlines()) == 1
            assert b"no space left" in done.stderr.lower()


def test_a_closed_stdout(model: Path) -> None:
    assert call("compress", model, "-q").returncode == 0
    name = shlex.quote(str(model))
    for arguments in ("--help", f"inspect {name}", f"inspect {name} --json", f"decompress {name}.bale -o -"):
        script = f"exec {shlex.join(BALE)} {arguments} >&-"
        done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, timeout=60, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (6, 1), done.stderr
        assert b"stdout" in done.stderr


def test_a_closed_stderr(model: Path) -> None:
    """What is said there goes nowhere, and not to stdout."""
    script = f"exec {shlex.join(BALE)} inspect {shlex.quote(str(model))}.none --json 2>&-"
    done = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 3
    assert json.loads(done.stdout)["results"][0]["error"]["code"] == 3


def test_decompress_to_stdout(model: Path) -> None:
    assert call("compress", model, "-q").returncode == 0
    done = call("decompress", f"{model}.bale", "-o", "-")
    assert done.returncode == 0
    assert done.stdout == model.read_bytes()


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_an_interrupt_ends_at_once_and_leaves_nothing(tmp_path: Path, verb: str) -> None:
    """A large decomposition runs meanwhile, which cannot be stopped."""
    source = write(tmp_path / "m.safetensors", {"w": weights(2500, 2500), "v": weights(2500, 2500, seed=1)})
    arguments = ["compress", str(source), "-p", "svd:rank=100", "--no-verify", "-T", "1"]
    if verb == "decompress":
        assert call("compress", source, "-q", "--no-verify").returncode == 0
        arguments = ["decompress", f"{source}.bale", "-o", str(tmp_path / "out"), "-T", "1"]
    before = names_in(tmp_path)
    process = subprocess.Popen([*BALE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".bale-tmp-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert process.returncode == 130
    assert (out, err) == (b"", b"bale: interrupted\n")
    assert names_in(tmp_path) == before


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.safetensors"))
    write(source, {"w": weights(64, 64)})
    done = call("compress", source)
    assert (done.returncode, done.stderr) == (0, b"")
    archive = Path(f"{source}.bale")
    report = json.loads(Path(f"{archive}.report.json").read_text())
    assert report["source"]["name"] == source.name
    for arguments in (["inspect", source], ["inspect", archive, "--json"], ["decompress", archive, "-f", "--json"]):
        done = call(*arguments)
        assert (done.returncode, done.stderr) == (0, b"")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff"))
    folder.mkdir()
    write(folder / source.name, {"w": weights(64, 64)})
    (folder / os.fsdecode(b"side\xfe")).write_bytes(b"x")
    assert call("compress", folder).returncode == 0
    back = tmp_path / "back"
    assert call("decompress", f"{folder}.bale", "-o", back).returncode == 0
    assert sorted(os.listdir(back)) == sorted(os.listdir(folder))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    source = write(tmp_path / "m.safetensors", {"\u6743\u91cd": weights(64, 64), "\ufffd\ud7ff": weights(2)})
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for options in ([], ["--json"]):
        done = call("inspect", source, *options, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
    assert call("inspect", tmp_path / "\u6743", env=environment).returncode == 3


def test_progress_is_shown_on_a_terminal_only(model: Path) -> None:
    assert call("compress", model).stderr == b""
    for environment in ({}, {"NO_COLOR": "1"}):
        master, slave = pty.openpty()
        done = subprocess.run(
            [*BALE, "compress", "-f", str(model)],
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            timeout=60,
            check=False,
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        os.close(master)
        assert done.returncode == 0
        assert b"Traceback" not in shown
        assert model.name.encode() in shown
        assert b"verified" in done.stdout
        if environment:
            assert b"\x1b[3" not in shown  # no colours


def test_read_only_install_without_a_home(model: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    assert call("compress", model, env=environment).returncode == 0
    digest = sha256(model)
    assert call("decompress", f"{model}.bale", "-f", env=environment).returncode == 0
    assert sha256(model) == digest
