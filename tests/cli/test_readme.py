"""The commands of the README run as they stand there, in their order, in one folder."""

from __future__ import annotations

import glob
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bale.cli.app import app
from tests.cli.conftest import Bale
from tests.making import bf16, sha256, weights, write

README = Path(__file__).parents[2] / "README.md"
NOT_RUN = {  # they fetch and build things
    ("make", "demo"),
    ("make", "test"),
    ("pip", "install", "."),
    ("pip", "install", ".[torch]"),
    ("pip", "install", ".[transformers]"),
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "a", "mat"]
WITH_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


@dataclass(frozen=True)
class Step:
    """One command of a shell block, or the text of a Python block."""

    words: tuple[str, ...]  # quoted as they stand there
    script: str = ""  # here-document, or Python block

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def plain(self) -> tuple[str, ...]:
        return tuple(shlex.split(str(self)))


def blocks(kind: str = r"\w+") -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(rf"^```({kind})\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def steps() -> Iterator[Step]:
    for kind, text in blocks("sh|python"):
        if kind == "python":
            yield Step(("python", "-"), text)
            continue
        lines = iter(text.splitlines())
        for line in lines:
            lexer = shlex.shlex(line, posix=False)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = list(lexer)
            script = ""
            if words and words[-1].startswith("<<"):
                end = words.pop().strip("<'")
                script = "".join(f"{each}\n" for each in iter(lambda: next(lines), end))  # noqa: B023
            if words:
                yield Step(tuple(words), script)


def expanded(word: str) -> list[str]:
    """A word as a shell passes it on: without quotes, or the files that a pattern matches."""
    return (sorted(glob.glob(word)) or [word]) if "*" in word and word[0] not in "'\"" else shlex.split(word)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README names, and which its commands do not make."""
    monkeypatch.chdir(tmp_path)
    model = {
        "embeddings.word_embeddings.weight": weights(800, 128, seed=1),
        "encoder.layer.0.attention.self.query.weight": weights(128, 128, seed=2),
        "encoder.layer.0.output.dense.weight": weights(128, 256, seed=3),
        "encoder.layer.0.output.dense.bias": weights(128, seed=4),
    }
    write(Path("model.safetensors"), model)
    for name, seed in (("finetuned.safetensors", 11), ("zoo/one.safetensors", 21), ("zoo/two.safetensors", 31)):
        Path(name).parent.mkdir(exist_ok=True)
        tuned = {key: value + np.float32(1e-4) * weights(*value.shape, seed=seed) for key, value in model.items()}
        write(Path(name), tuned)
    Path("sharded").mkdir()
    Path("sharded/config.json").write_text("{}")
    for shard, (name, value) in enumerate(model.items(), start=1):
        write(Path(f"sharded/model-{shard:05}-of-{len(model):05}.safetensors"), {name: bf16(value)})
    (recipe,) = (text for _, text in blocks("toml"))
    Path("recipe.toml").write_text(recipe)
    Path("lines.txt").write_text("the cat sat on a mat\n" * 3)
    Path("model-folder").mkdir()
    if WITH_TRANSFORMERS:
        _bert_in(Path("model-folder"))
    else:
        write(Path("model-folder/model.safetensors"), model)
        write(Path("stats.safetensors"), {"encoder.layer.0.output.dense.weight": np.ones(256, "<f4")})
    return tmp_path


def _bert_in(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')


def test_every_verb_is_mentioned() -> None:
    assert [verb.name for verb in app.registered_commands if f"bale {verb.name}" not in README.read_text()] == []


def test_what_is_not_run_stands_there() -> None:
    assert {step.plain for step in steps() if not step.script} >= NOT_RUN


@pytest.mark.filterwarnings("ignore:unclosed file")  # of its short scripts
def test_the_commands_run(folder: Path, bale: Bale) -> None:
    ran = 0
    for step in steps():
        if step.plain not in NOT_RUN:
            _run(step, bale)
            ran += 1
    assert ran > 30
    originals = {"restored": "model", "again": "finetuned", "exact": "model"}
    for copy, original in originals.items():
        assert sha256(Path(f"{copy}.safetensors")) == sha256(Path(f"{original}.safetensors"))


def _run(step: Step, bale: Bale) -> None:
    program, *arguments = (each for word in step.words for each in expanded(word))
    match program:
        case "bale":
            if arguments[0] in ("stats", "eval") and not WITH_TRANSFORMERS:
                return
            output = arguments.pop()[1:] if arguments[-1].startswith(">") else None
            said = bale(*arguments)
            assert said.code == 0, f"{step}: {said.code}, {said.err}"
            if output is not None:
                Path(output).write_text(said.out)
        case "python":
            _run_python(step, arguments)
        case "mkdir":
            assert arguments == ["-p", arguments[-1]]
            Path(arguments[-1]).mkdir(exist_ok=True)
        case _:
            pytest.fail(f"the README has the command `{step}`: run it here, or list it in NOT_RUN")


def _run_python(step: Step, arguments: list[str]) -> None:
    option, *code = arguments
    assert (option, len(code)) in (("-", 0), ("-c", 1)), f"{step}: run it here, or list it in NOT_RUN"
    try:
        exec(compile(code[0] if code else step.script, str(README), "exec"), {})
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{step}: {end.code}")
