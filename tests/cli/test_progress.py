"""Progress: never beyond all there is, within tensors too, and in as many columns as there are."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import bale as package
from bale.cli import render
from bale.cli.progress import Counter, bar
from bale.compressors.compiling import begins
from tests.cli.conftest import Bale
from tests.making import bf16, weights, write


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tensor of three chunks and a half, and a small one."""
    monkeypatch.setattr(render, "HEARTBEAT", 0)
    monkeypatch.chdir(tmp_path)
    made = write(tmp_path / "m.safetensors", {"w": bf16(weights(3500, 1024)), "v": weights(64, 64)})
    assert made.name == "m.safetensors"
    return Path("m.safetensors")


def shares(bale: Bale, *command: object) -> list[float]:
    said = bale(*command)
    assert said.code == 0, said
    found = [float(share) for share in re.findall(r"^bale: [^:]+: ([0-9.]+) % after", said.err, re.MULTILINE)]
    assert found == sorted(found)
    assert max(found) <= 100
    return found


def test_shares_end_with_all_and_move_within_a_tensor(bale: Bale, long: Path) -> None:
    for choices in ([], ["--no-verify"], ["-p", "int4"], ["-p", "int4/exact"], ["-p", "nf4", "--no-verify"]):
        found = shares(bale, "compress", long, "-o", "a.bale", "-f", *choices)
        assert found[-1] > 99.9, choices
        assert len([share for share in found if share < 99]) > 2, choices
    assert bale("compress", long, "-p", "int4", "-o", "a.bale", "-f").code == 0
    for command in (["verify", "a.bale"], ["verify", "a.bale", "--against", long], ["decompress", "a.bale", "-o", "b"]):
        found = shares(bale, *command)
        assert found[-1] > 99.9
        assert len(found) > 4
    assert shares(bale, "plan", long, "-p", "int4")[-1] > 99.9
    assert shares(bale, "inspect", long, "--floor")[-1] > 99.9
    assert shares(bale, "inspect", "a.bale", "--floor")[-1] > 99.9


def test_bases_do_not_count(bale: Bale, long: Path) -> None:
    assert bale("compress", long, "-p", "int8", "-o", "base.bale").code == 0
    write(Path("tuned.safetensors"), {"w": bf16(1.001 * weights(3500, 1024)), "v": weights(64, 64)})
    found = shares(bale, "compress", "tuned.safetensors", "--base", "base.bale", "-o", "a.bale")
    assert found[-1] > 99.9
    assert shares(bale, "verify", "a.bale", "--base", "base.bale")[-1] > 99.9


def test_what_is_kept_lossless_in_the_end_counts_once(bale: Bale, long: Path) -> None:
    assert shares(bale, "compress", long, "-p", "svd:rank=1000", "-o", "a.bale")[-1] > 99.9


class Told:
    """What a run says: how many bytes there are, and each piece of them."""

    def __init__(self) -> None:
        self.total, self.pieces = 0, list[tuple[str, int]]()

    def expect(self, total: int) -> None:
        self.total = total

    def __call__(self, name: str, done: int) -> None:
        self.pieces.append((name, done))

    @property
    def done(self) -> int:
        return sum(done for _, done in self.pieces)


def test_single_tensors_are_told(bale: Bale, long: Path) -> None:
    assert bale("compress", long, "-p", "int4", "-o", "a.bale").code == 0
    w, v = 2 * 3500 * 1024, 4 * 64 * 64
    for pattern, out, size in (("*", "b.safetensors", v + w), ("w", "w.safetensors", w), ("v", "v.npy", v)):
        told = Told()
        package.decompress("a.bale", out, tensors=[pattern], progress=told)
        assert told.done == told.total == size
    found = shares(bale, "decompress", "a.bale", "--tensor", "w", "-o", "c.safetensors")
    assert found[-1] == 100
    assert len(found) > 3


def test_comparisons_are_told_to_the_end(bale: Bale, long: Path) -> None:
    """Whatever A is, and what of it B lacks or has in another shape; every tensor once, however small."""
    write(Path("other.safetensors"), {"v": weights(64, 32), "s": weights(8), "t": weights(70, 70), "x": weights(9, 9)})
    write(Path("one.safetensors"), {"v": weights(64, 64), "s": weights(8), "t": weights(70, 70), "z": weights(300, 90)})
    for source in ("one.safetensors", "m.safetensors"):
        assert bale("compress", source, "-o", f"{source}.bale").code == 0
    pairs = [("one", "other"), ("one", "one"), ("m", "m"), ("m", "one")]
    for a, b in [(f"{a}.safetensors{end}", f"{b}.safetensors") for a, b in pairs for end in ("", ".bale")]:
        told = Told()
        package.compare(a, b, progress=told)
        assert told.done == told.total, (a, b)
        assert {name for name, _ in told.pieces} == set(package.open(f"{a.removesuffix('.bale')}.bale")), (a, b)
    found = shares(bale, "compare", "m.safetensors.bale", long)
    assert found[-1] == 100
    assert len([share for share in found if share < 99]) > 2


def test_a_folder_is_told_by_its_name(bale: Bale, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model").mkdir()
    shutil.copy(long, "model")
    monkeypatch.chdir("model")
    assert "bale: model and m.safetensors: " in bale("compare", ".", "m.safetensors").err


def test_only_what_is_read_counts(bale: Bale, long: Path) -> None:
    """Neither what is copied by another verb nor what was left out."""
    Path("model/more").mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "more/c")):
        write(Path(f"model/{name}.safetensors"), {name: weights(128, 1024, seed=seed)})
    Path("model/notes.txt").write_bytes(b"x" * 2_000_000)
    for command in (
        ["plan", "model"],
        ["plan", "model", "--exclude", "more/*"],
        ["inspect", "model", "--floor"],
        ["inspect", "model", "--floor", "--exclude", "more/*"],
        ["compress", "model", "--exclude", "more/*", "-o", "out.bale"],
        ["inspect", "out.bale", "--floor"],
        ["compare", "out.bale", "model"],
        ["compare", "model", "out.bale"],
    ):
        assert shares(bale, *command)[-1] > 99.9, command


def test_folders_count_their_copies(bale: Bale, long: Path) -> None:
    Path("model").mkdir()
    for name in ("a", "b"):
        shutil.copy(long, f"model/{name}.safetensors")
    Path("model/notes.txt").write_bytes(b"x" * 2_000_000)
    for command in (
        ["compress", "model", "-o", "out.bale"],
        ["verify", "out.bale"],
        ["verify", "out.bale", "--against", "model"],
        ["decompress", "out.bale", "-o", "back"],
    ):
        assert shares(bale, *command)[-1] > 99.9


def test_a_counter_stops_at_the_total() -> None:
    told: list[int] = []
    counter = Counter(lambda name, done, total: told.append(done), 10)
    for done in (4, 4, 4, 4):
        counter("x", done)
    assert told == [4, 8, 10, 10]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_bar_fits_the_terminal(width: int) -> None:
    from rich.console import Console

    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=True, color_system=None)
    with bar(console, "a-name-that-is-much-longer-than-a-narrow-terminal-is-wide.safetensors", 10_000_000_000) as show:
        show("x", 5_000_000_000, 10_000_000_000)
        console.print("")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    assert any("50 %" in line for line in lines)
    assert any("a-name" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_compiling_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """By a command, whatever the number of its sources."""
    with render.Printer(False, True).progress("m", 10):
        begins()
    assert capsys.readouterr().err == ""
    printer = render.Printer(False, False)
    for name in ("m", "n"):
        with printer.progress(name, 10):
            begins()
            begins()
    begins()
    said = " ".join(capsys.readouterr().err.split())
    assert said == "bale: note: compiling loops, as bale was built without a C compiler: it takes some seconds, once"


def test_a_loop_that_is_compiled_is_told() -> None:
    from bale.compressors.compiling import when_compiling
    from bale.compressors.kernels import compiled

    scope: dict[str, Any] = {}
    exec("def twice(x): return 2 * x", scope)  # of no file, beside which it could be kept
    told: list[str] = []
    with when_compiling(lambda: told.append("now")):
        assert compiled(scope["twice"])(4) == 8
    assert told
