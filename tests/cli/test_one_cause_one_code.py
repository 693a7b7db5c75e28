"""What is missing or not permitted is exit 3, whatever it was given as; an empty path is exit 2.

The superuser may read everything, so that part runs as somebody else where tests run as root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Bale
from tests.making import weights, write

AS_SOMEBODY = """
import contextlib, io, json, os, sys
import bale.models.collect
from bale.cli.app import run

def said(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return [code, out.getvalue(), err.getvalue()]

warm, commands = json.loads(sys.stdin.read())
for arguments in warm:  # the interpreter's files may be out of reach afterwards
    code, out, err = said(arguments)
    assert code == 0, err
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([said(arguments) for arguments in commands]))
"""

UNREADABLE = {
    "missing": lambda folder: folder / "missing",
    "missing archive": lambda folder: folder / "missing.bale",
    "in a folder that is missing": lambda folder: folder / "none" / "m.safetensors",
    "below a file": lambda folder: folder / "m.safetensors" / "x",
    "a link to itself": lambda folder: _linked(folder / "loop"),
    "a name that is too long": lambda folder: folder / ("x" * 300),
    "a pipe": lambda folder: _pipe(folder / "pipe"),
}


def _linked(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _uses(folder: Path, path: Path) -> list[list[str]]:
    """Every place of every verb that a path to be read can stand in."""
    sound, archive, stored = folder / "m.safetensors", folder / "m.safetensors.bale", folder / "model.bale"
    new = folder / "new"
    commands = [[verb, path] for verb in ("compress", "plan", "inspect", "verify", "decompress")]
    commands += [["compare", sound, path], ["compare", path, sound], ["decompress", path, "-o", new]]
    commands += [["decompress", path, "-o", new, "--tensor", "*"], ["inspect", "--floor", path]]
    for verb in (["compress", "-o", new], ["plan"]):
        for option in ("--base", "--stats", "--recipe"):
            commands.append([*verb, sound, option, path])
    commands += [["verify", archive, "--base", path], ["decompress", archive, "--base", path, "-o", new]]
    commands += [["verify", archive, "--against", path], ["verify", stored, "--against", path]]
    commands += [["stats", path, "--text", folder / "lines.txt"], ["stats", folder / "model", "--text", path]]
    texts = ["--text", folder / "lines.txt"]
    commands += [["eval", *each, *texts] for each in ([path, sound, sound], [folder / "hub", path, sound])]
    commands += [["eval", folder / "hub", sound, path, *texts], ["eval", folder / "hub", sound, sound, "--text", path]]
    return [[str(word) for word in command] for command in commands]


@pytest.fixture
def prepared(bale: Bale, tmp_path: Path) -> Path:
    return _prepare(bale, tmp_path)


def _prepare(bale: Bale, folder: Path) -> Path:
    source = write(folder / "m.safetensors", {"w": weights(64, 64)})
    (folder / "lines.txt").write_text("a line\n")
    (folder / "model").mkdir()
    shutil.copy(source, folder / "model")
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text("{}")
    (folder / "hub" / "vocab.txt").touch()
    for path in (source, folder / "model"):
        assert bale("compress", path, "-q").code == 0
    return folder


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_has_one_code(bale: Bale, prepared: Path, case: str) -> None:
    path = UNREADABLE[case](prepared)
    for command in _uses(prepared, path):
        if not (case == "a pipe" and command[-2] in ("--text", "--recipe")):  # which are read from pipes too
            bale(*command).failed(3, path.name[:20])


def test_a_folder_where_a_file_is_needed(bale: Bale, prepared: Path) -> None:
    folder, archive = prepared / "model", prepared / "m.safetensors.bale"
    bale("compress", prepared / "m.safetensors", "--recipe", folder).failed(3, "model")
    bale("compress", prepared / "m.safetensors", "-p", "int8", "--stats", folder, "-f").failed(3, "model")
    bale("verify", archive, "--against", folder).failed(3, "model")
    bale("stats", folder, "--text", folder).failed(3, "model")


def test_a_stored_folder_that_lacks_a_file_is_damaged(bale: Bale, prepared: Path) -> None:
    (prepared / "model.bale" / "m.safetensors.bale").unlink()
    for command in (["verify"], ["inspect"], ["decompress", "-o", prepared / "new"]):
        bale(command[0], prepared / "model.bale", *command[1:]).failed(4, "m.safetensors.bale", "missing")


@pytest.mark.parametrize("use", range(30))
def test_an_empty_path_is_a_usage_error(bale: Bale, prepared: Path, use: int) -> None:
    commands = [["" if word == "X" else word for word in command] for command in _uses(prepared, Path("X"))]
    sound = str(prepared / "m.safetensors")
    commands += [["compress", sound, "-o", ""], ["compress", sound, "--report", ""], ["compress", sound, ""]]
    commands += [["decompress", f"{sound}.bale", "-o", ""], ["compress", sound, "--base="]]
    if use < len(commands):
        bale(*commands[use]).failed(2, "an empty path")


@pytest.fixture
def shared(bale: Bale) -> Iterator[Path]:
    """A folder that anybody may read and write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        _prepare(bale, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        yield folder
    finally:
        for path in folder.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(folder)


def _as_somebody(folder: Path, commands: list[list[str]]) -> list[list]:
    sound, recipe = str(folder / "m.safetensors"), folder / "rules.toml"
    recipe.write_text('[[rule]]\nname = "*"\npipeline = "int8"\n')
    out = str(folder / "warm")
    warm = [
        ["compress", sound, "-o", f"{out}.bale", "-r", str(recipe), "--base", str(folder / "model"), "-f"],
        ["decompress", f"{out}.bale", "-o", out, "--base", str(folder / "model")],
        *(["compress", str(folder / "model"), "-o", f"{out}.2"], ["decompress", f"{out}.2", "-o", f"{out}.3"]),
        *(["plan", sound, "-p", "int8"], ["verify", f"{sound}.bale"], ["inspect", "--floor", sound]),
        *(["verify", str(folder / "model.bale")], ["compare", sound, sound], ["codecs"]),
    ]
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY],
        input=json.dumps([warm, commands]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_what_is_not_permitted_has_one_code(shared: Path) -> None:
    """A file, an archive, a folder, and a file in one."""
    file = Path(shutil.copy(shared / "m.safetensors", shared / "locked.safetensors"))
    archive = Path(shutil.copy(shared / "m.safetensors.bale", shared / "locked.bale"))
    folder = shutil.copytree(shared / "model", shared / "locked")
    for path in (file, archive, folder / "m.safetensors", folder):
        path.chmod(0)
    commands = [each for path in (file, archive, folder, folder / "m.safetensors") for each in _uses(shared, path)]
    for command, (code, out, err) in zip(commands, _as_somebody(shared, commands), strict=True):
        assert (code, out) == (3, ""), (command, err)
        assert len(err.splitlines()) == 1, (command, err)
        assert "locked" in err, (command, err)


def test_of_several_sources_the_others_are_done(shared: Path) -> None:
    locked = Path(shutil.copy(shared / "m.safetensors", shared / "locked.safetensors"))
    other = Path(shutil.copy(shared / "m.safetensors", shared / "other.safetensors"))
    locked.chmod(0)
    command = ["compress", str(locked), str(other), str(shared / "none")]
    (code, out, err), (again, document, _) = _as_somebody(shared, [command, [*command, "--json", "--skip-existing"]])
    assert code == again == 3
    assert "locked.safetensors" in err
    assert "other.safetensors.bale" in out
    assert out.splitlines()[-1].startswith("1 done, 2 failed: ")
    assert (shared / "other.safetensors.bale").is_file()
    results = json.loads(document)["results"]
    assert [(each["code"], each.get("skipped")) for each in results] == [(3, None), (0, True), (3, None)]
    assert [each["name"] for each in results] == command[1:]


def test_a_place_that_is_not_permitted(shared: Path) -> None:
    modes = {shared / "locked": 0, shared / "locked-to-writers": 0o555}
    for place, mode in modes.items():
        (place / "in").mkdir(parents=True)
        place.chmod(mode)
    sources = [["compress", str(shared / "m.safetensors")], ["compress", str(shared / "model")]]
    sources += [["decompress", f"{each[1]}.bale"] for each in sources]
    places = [f"{place}{end}" for place in modes for end in ("", "/", "/x", "/new/")]
    commands = [[*each, "-o", out, *more] for each in sources for out in places for more in ([], ["--skip-existing"])]
    for command, (code, _, err) in zip(commands, _as_somebody(shared, commands), strict=True):
        assert code == 6, (command, err)
        assert len(err.splitlines()) == 1, (command, err)
        assert "locked" in err


def test_a_stored_file_that_is_not_permitted(shared: Path) -> None:
    (shared / "model.bale" / "m.safetensors.bale").chmod(0)
    stored = str(shared / "model.bale")
    commands = [["verify", stored], ["inspect", stored], ["decompress", stored, "-o", str(shared / "new")]]
    for command, (code, _, err) in zip(commands, _as_somebody(shared, commands), strict=True):
        assert code == 3, (command, err)
        assert "permission denied" in err.lower()
