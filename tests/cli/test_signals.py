"""Signals that end the program: each cleans up as Ctrl-C does, says which it was, and has its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_process import BALE, call
from tests.making import names_in, weights, write

ENDS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGHUP: (129, "hung up"),
}


def _plain() -> None:
    for number in ENDS:
        signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with


def started(*arguments: object, ready: Callable[[], bool], **options: object) -> subprocess.Popen[bytes]:
    """The program, once it has come so far."""
    options = {"preexec_fn": _plain, **options}
    command = [*BALE, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process  # type: ignore[no-any-return]


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A checkpoint whose decomposition takes seconds."""
    return write(tmp_path / "m.safetensors", {"w": weights(2500, 2500), "v": weights(2500, 2500, seed=1)})


def has_temporary(folder: Path) -> Callable[[], bool]:
    return lambda: bool(list(folder.glob("**/.bale-tmp-*")))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("number", ENDS)
def test_each_signal_cleans_up_and_says_so(long: Path, number: signal.Signals, as_json: bool) -> None:
    before = names_in(long.parent)
    arguments = ["compress", long, "-p", "svd:rank=100", "-T", "1", *(["--json"] if as_json else [])]
    process = started(*arguments, ready=has_temporary(long.parent))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    code, word = ENDS[number]
    assert (process.returncode, err.decode()) == (code, f"bale: {word}\n")
    assert names_in(long.parent) == before
    if as_json:
        error = json.loads(out)["error"]
        assert error.keys() == {"code", "kind", "message", "hint"}
        assert (error["code"], error["kind"], error["message"]) == (code, "interrupted", word)
        assert error["hint"] == "what was half made has been removed; run it again"
    else:
        assert out == b""


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_half_a_folder_is_removed_or_can_be_continued(tmp_path: Path, verb: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.safetensors", {"w": weights(2500, 2500, seed=number)})
    arguments: list[object] = ["compress", folder, "-p", "svd:rank=100", "-T", "1"]
    if verb == "decompress":
        assert call("compress", folder, "-q", "--no-verify").returncode == 0
        arguments = ["decompress", tmp_path / "model.bale", "-o", tmp_path / "back", "-T", "1"]
    process = started(*arguments, ready=has_temporary(tmp_path))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not has_temporary(tmp_path)()
    assert not (tmp_path / "back").exists()


def test_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    """It comes just before the temporary file is removed."""
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    script = f"""
import os, signal, sys
from bale.io.archive.archive import ArchiveWriter

unlink = os.unlink

def disturbed(path):
    signal.raise_signal(signal.SIGINT)
    unlink(path)

def terminated(self, data):
    os.unlink = disturbed
    signal.raise_signal(signal.SIGTERM)

ArchiveWriter.append = terminated
sys.argv = ["bale", "compress", {str(source)!r}]
from bale.cli.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False, preexec_fn=_plain
    )
    assert (done.returncode, done.stderr) == (143, b"bale: terminated\n")
    assert names_in(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_that_was_ignored_from_the_start_stays_so(tmp_path: Path, number: signal.Signals) -> None:
    """As nohup and `&` in a script have it."""
    source = write(tmp_path / "m.safetensors", {"w": weights(1000, 1000)})

    def ignoring() -> None:
        _plain()
        signal.signal(number, signal.SIG_IGN)

    ready = has_temporary(tmp_path)
    process = started("compress", source, "-q", "-p", "svd:rank=50", "-T", "1", ready=ready, preexec_fn=ignoring)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert (tmp_path / "m.lossy.safetensors.bale").is_file()


@pytest.mark.parametrize("module", ["bale.cli.app", "bale.cli.render", "typer", "bale.api", "numpy"])
@pytest.mark.parametrize("number", ENDS)
def test_a_signal_while_modules_are_imported(tmp_path: Path, number: signal.Signals, module: str) -> None:
    """The import of a module sends it: there is no need to hit the moment."""
    source = write(tmp_path / "m.safetensors", {"w": weights(8, 8)})
    script = f"""
import signal, sys
from importlib.abc import MetaPathFinder

class Sending(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal({int(number)})

sys.meta_path.insert(0, Sending())
sys.argv = ["bale", "compress", {str(source)!r}, "--json"]
from bale.cli.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False, preexec_fn=_plain
    )
    code, word = ENDS[number]
    assert (done.returncode, done.stderr.decode()) == (code, f"bale: {word}\n")
    assert json.loads(done.stdout)["error"]["code"] == code
    assert names_in(tmp_path) == ["m.safetensors"]


def test_nothing_that_takes_time_is_imported_before_signals_are_minded() -> None:
    script = """
import sys
import os
before = set(sys.modules)
import bale.cli.entry
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert set(done.stdout.split()) <= {"bale", "bale.cli", "bale.cli.entry", "types", "__future__"}


def test_a_signal_after_the_result_adds_no_second_document(model: Path) -> None:
    script = f"""
import signal, sys
from bale.cli import render
emit = render.emit

def and_then(text):
    emit(text)
    signal.raise_signal(signal.SIGTERM)

render.emit = and_then
sys.argv = ["bale", "inspect", {str(model)!r}, "--json"]
from bale.cli.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False, preexec_fn=_plain
    )
    assert (done.returncode, done.stderr) == (143, b"bale: terminated\n")
    assert "tensors" in json.loads(done.stdout)["results"][0]


def test_a_terminal_that_has_hung_up(long: Path) -> None:
    """Nobody is there to be told, and still nothing is left."""
    before = names_in(long.parent)
    process = started("compress", long, "-p", "svd:rank=100", "-T", "1", ready=has_temporary(long.parent))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 129
    assert names_in(long.parent) == before


def test_an_interrupt_of_run_within_another_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bale import api
    from bale.cli.app import run

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDS}
    monkeypatch.setattr(api, "inspect", interrupted)
    assert run(["inspect", str(tmp_path), "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.err == "bale: interrupted\n"
    assert json.loads(printed.out)["error"]["kind"] == "interrupted"
    assert {number: signal.getsignal(number) for number in ENDS} == before  # they are that program's


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("MemoryError()", "not enough memory"),
        ("ImportError('libopenblas.so: failed to map segment from shared object')", "not enough memory"),
        ("OSError(12, 'Cannot allocate memory')", "not enough memory"),
        ("type('ZstdError', (Exception,), {})('zstd compress error: Allocation error : not enough memory')", "memory"),
        ('RuntimeError("can\'t start new thread")', "no thread could be started"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: str, words: str
) -> None:
    from bale import api
    from bale.cli.app import run

    def lacking(*_: object, **__: object) -> None:
        try:
            raise eval(problem)
        except Exception as found:
            raise ValueError("wrapped") from found

    monkeypatch.setattr(api, "inspect", lacking)
    assert run(["inspect", str(tmp_path), "--json"]) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err
    assert words in json.loads(printed.out)["results"][0]["error"]["message"]


def test_an_interrupt_by_a_library_that_had_no_thread(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenBLAS raises SIGINT where it can start no thread."""
    import threading

    from bale import api
    from bale.cli.app import run

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(api, "inspect", interrupted)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert run(["inspect", str(tmp_path)]) == 1
    assert "no thread could be started" in capsys.readouterr().err
