"""Words that are no verbs, options in the wrong place, and where help is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from bale.cli.app import app
from bale.cli.verbs import SYNONYMS
from tests.cli.conftest import Bale
from tests.cli.test_process import call

MEANT = {
    "list": "inspect",
    "ls": "inspect",
    "show": "inspect",
    "info": "inspect",
    "diff": "compare",
    "test": "verify",
    "check": "verify",
    "restore": "decompress",
    "extract": "decompress",
    "unpack": "decompress",
    "decode": "decompress",
    "uncompress": "decompress",
    "pack": "compress",
    "encode": "compress",
    "archive": "compress",
    "quantize": "compress",
    "dry-run": "plan",
    "estimate": "plan",
    "formats": "codecs",
    "methods": "codecs",
    "LIST": "inspect",
    "Compress": "compress",
}


@pytest.mark.parametrize("word", MEANT)
def test_a_synonym_is_answered_with_the_command_that_is_meant(bale: Bale, word: str) -> None:
    bale(word, "a b", "-q").failed(2, f"`bale {MEANT[word]} 'a b' -q`")
    document = bale(word, "--json")
    assert document.code == 2
    assert document.json["error"]["hint"] == f"did you mean `bale {MEANT[word]} --json`?"


def test_no_synonym_hides_a_verb_or_stands_for_two() -> None:
    words = [word for words in SYNONYMS.values() for word in words]
    verbs = {command.name for command in app.registered_commands}
    assert len(set(words)) == len(words)
    assert not set(words) & verbs
    assert SYNONYMS.keys() <= verbs


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("model.safetensors", "bale compress model.safetensors"),
        ("some/folder", "bale compress some/folder"),
        ("my model.pt", "bale compress 'my model.pt'"),
        ("model.safetensors.bale", "bale decompress model.safetensors.bale"),
        ("some/folder.bale", "bale decompress some/folder.bale"),
    ],
)
def test_a_path_for_a_verb(bale: Bale, word: str, command: str) -> None:
    bale(word, "-T", "1").failed(2, f"`{command} -T 1`")


def test_a_file_without_a_suffix_for_a_verb(bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bale("weights").failed(2, "see bale --help")
    (tmp_path / "weights").write_bytes(b"x")
    bale("weights").failed(2, "`bale compress weights`")


def test_a_misspelled_verb(bale: Bale) -> None:
    bale("comprss").failed(2, "did you mean compress")
    bale("insepct").failed(2, "did you mean inspect")
    bale("shwo").failed(2, "did you mean inspect")
    bale("zzzzz").failed(2, "there is no verb 'zzzzz'; see bale --help")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress"], ["SOURCE", "see bale compress --help"]),
        (["verify", "a", "--nothing"], ["--nothing", "see bale verify --help"]),
        (["compress", "a", "--rule"], ["--rule", "see bale compress --help"]),
        (["compress", "a", "--pipline", "int8"], ["--pipline", "did you mean --pipeline?", "see bale compress --help"]),
        (["decompress", "a", "--layers", "7"], ["--layers", "see bale decompress --help"]),
        (["compress", "a", "-T", "many"], ["--threads", "see bale compress --help"]),
        (["compare", "a"], ["see bale compare --help"]),
        (["plan", "a", "b"], ["see bale plan --help"]),
        (["--nothing"], ["see bale --help"]),
        (["--json", "inspect", "a"], ["--json", "behind the verb"]),
    ],
)
def test_a_usage_error_names_the_help_that_explains_it(bale: Bale, arguments: list[str], words: list[str]) -> None:
    said = bale(*arguments)
    assert said.code == 2
    for word in words:
        assert word in said.err.splitlines()[0]


def test_help_and_version_in_other_words(bale: Bale) -> None:
    assert bale("-V").out == bale("--version").out != ""
    assert bale("help").out == bale("--help").out
    for verb in (command.name for command in app.registered_commands):
        said = bale("help", verb)
        assert (said.code, said.out) == (0, bale(verb, "--help").out)
    bale("help", "list").failed(2, "bale inspect --help")
    bale("help", "nonsense").failed(2, "nonsense")


@pytest.mark.parametrize("verb", ["compress", "plan"])
def test_help_says_how_choices_are_written(bale: Bale, verb: str) -> None:
    text = " ".join(bale(verb, "--help").out.split())
    for words in ("codec[:key=value,...]", "joined by +", "A/B", "re:", "first match wins", "trellis:bits=4"):
        assert words in text
    assert "svd" not in text  # which ruins trained weights


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(bale: Bale, shell: str) -> None:
    said = bale("completion", shell)
    assert said.code == 0
    assert "_BALE_COMPLETE" in said.out
    assert bale("completion", shell, "--json").json == {"shell": shell, "script": said.out.rstrip("\n")}
    bale("completion", "tcsh").failed(2, "tcsh", "bash, zsh, fish")
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=said.out, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(("shell", "file"), [("bash", "~/.bashrc"), ("zsh", "~/.zshrc"), ("fish", "bale.fish")])
def test_help_says_what_to_write_where(bale: Bale, shell: str, file: str) -> None:
    text = " ".join(bale("completion", "--help").out.split())
    assert file in text
    command = f"bale completion {shell}"
    assert (f"`source <({command})` into {file}" if shell != "fish" else f"{command} > ") in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bale comp", ["compress", "compare", "completion"]),
        ("bale rec", ["recipes"]),
        ("bale compress --rec", ["--recipe"]),
        ("bale xyz ab", []),
        ("bale -", ["--help", "--version", "-V", "-h"]),
    ],
)
def test_a_shell_that_asks_for_words_gets_them(words: str, found: list[str]) -> None:
    asked = {"_BALE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = call(env={**os.environ, **asked})
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.decode().split()) == sorted(found)


def test_codecs_begins_with_what_to_choose(bale: Bale) -> None:
    from bale.compressors.pipeline import Pipeline

    said = bale("codecs")
    menu = said.out[: said.out.index("\ncodec ")]
    assert menu.startswith("What to choose")
    rows = [line.split()[0] for line in menu.splitlines()[2:10]]
    assert {"lossless", "lossless:effort=max", "trellis:bits=4", "trellis:bits=3", "int8", "int4"} <= set(rows)
    for pipeline in rows:
        Pipeline.parse(pipeline)
    assert "make bench-menu" in menu
    assert "svd" not in "".join(rows)
    assert [each["name"] for each in bale("codecs", "--json").json]  # a list of codecs, as ever


def test_the_menu_is_measured_throughout() -> None:
    """That more bits have less error also shows that no row was mixed up."""
    from bale.cli.menu import FILE

    rows = json.loads(FILE.read_text())["rows"]
    for row in rows:
        assert row.keys() == {"pipeline", "use", "percent", "bits", "snr_db", "divergence"}
        assert (row["snr_db"] is None) == (row["divergence"] is None) == row["pipeline"].startswith("lossless")
    trellis = sorted((row for row in rows if row["pipeline"].startswith("trellis")), key=lambda row: row["bits"])
    assert len(trellis) >= 3
    for less, more in pairwise(trellis):
        assert less["percent"] < more["percent"]
        assert less["snr_db"] < more["snr_db"]
        assert less["divergence"] > more["divergence"]
