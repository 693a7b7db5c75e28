"""The verb `stats`: from a folder to a file; with real models, as small as can be, where transformers is installed."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

import bale as api
from tests.cli.conftest import Bale
from tests.making import names_in, sha256, weights, write

needs_transformers = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="no transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran"]]
TEXT = "the cat sat\n\n  a dog ran and the cat sat on the mat  \non a mat\nthe mat and the dog and the cat\n"


# Refusals, which need no transformers.


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_what_is_no_model(tmp_path: Path, text: Path, bale: Bale) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    bale("stats", folder, "--text", text, "-o", out).failed(3, "model: no such file")
    folder.mkdir()
    bale("stats", folder, "--text", text, "-o", out).failed(3, "has no config.json")
    (folder / "config.json").write_text("{}")
    bale("stats", folder, "--text", text, "-o", out).failed(3, "has no tokenizer")
    (folder / "vocab.txt").touch()
    bale("stats", folder, "--text", text, "-o", out).failed(3, "holds no weights", "put them beside the config")
    (folder / "model.safetensors").write_text("none")
    bale("stats", folder, "--text", text, "-o", out).failed(3, "model.safetensors")
    bale("stats", folder).failed(2, "--text")
    bale("stats", folder, "--text", text, "-o", text).failed(6, "it is the input")
    bale("stats", folder, "--text", tmp_path / "none", "-o", out).failed(3, "no such file")
    bale("stats", folder, "--text", text, "--length", "0").failed(2, "--length")
    out.touch()
    bale("stats", folder, "--text", text, "-o", out).failed(6, "exists already")


def test_nothing_of_the_model_is_overwritten(tmp_path: Path, text: Path, bale: Bale) -> None:
    """Neither in its folder, by whatever name, nor where its files are linked to."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    for name in ("config.json", "vocab.txt"):
        (folder / name).write_text("{}")
    stored = write(tmp_path / "blob", {"w": weights(2, 2)})
    (folder / "model.safetensors").symlink_to(stored)
    (tmp_path / "linked").symlink_to(folder)
    before = sha256(stored), names_in(folder)
    for out in (folder / "model.safetensors", folder / "new", folder / "inner" / "new", tmp_path / "linked" / "new"):
        for model in (folder, tmp_path / "linked"):
            bale("stats", model, "--text", text, "-o", out, "-f").failed(6, "it is in the model's folder", "-o")
    bale("stats", folder, "--text", text, "-o", stored, "-f").failed(6, "it is the input")
    assert (sha256(stored), names_in(folder)) == before


def test_a_folder_that_has_no_name(text: Path, bale: Bale) -> None:
    bale("stats", "/", "--text", text).failed(3, "/ has no config.json")


def test_without_transformers(tmp_path: Path, text: Path, bale: Bale, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "vocab.txt").touch()
    write(folder / "model.safetensors", {"w": weights(2, 2)})
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = bale("stats", folder, "--text", text, "-o", tmp_path / "out")
    said.failed(2, "not installed", "pip install '.[transformers]'")
    assert not (tmp_path / "out").exists()


# A real model, as small as can be.


def tokenizer_in(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    kind = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))


def bert_in(folder: Path, kind: str = "BertModel", **more: Any) -> Any:
    import transformers

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        **more,
    )
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    tokenizer_in(folder)
    return model


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Nothing is fetched: there are no connections."""
    found: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: found.append(address))
    yield found
    assert not found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tiny"
    made.mkdir()
    return made


def matrices(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in load_file(path).items() if array.ndim > 1}


@needs_transformers
def test_statistics_of_a_model(folder: Path, text: Path, bale: Bale) -> None:
    model = bert_in(folder)
    out = folder.with_name("s")
    said = bale("stats", folder, "--text", text, "-o", out, "--covariance", "--json", "-T", "1")
    lines = [line.split() for line in TEXT.splitlines() if line.strip()]
    tokens = [[2, *(WORDS.index(word) for word in line), 3] for line in lines]
    assert said.json == {"output": str(out), "tensors": 13, "lines": 4, "tokens": sum(map(len, tokens))}
    with safe_open(out, "np") as file:
        assert file.metadata()["bale.stats"] == "1"
    found = load_file(out)
    named = {name for name in matrices(folder / "model.safetensors") if "embeddings" not in name}
    assert {name.removesuffix(":covariance") for name in found} == named
    # By hand, one line at a time: what goes into the first query is what the embeddings put out.
    with torch.no_grad():
        rows = torch.cat([model.embeddings(torch.tensor([line]))[0] for line in tokens]).double().numpy()
    query = "encoder.layer.0.attention.self.query.weight"
    np.testing.assert_allclose(found[query], (rows**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found[f"{query}:covariance"], rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
    # The pooler sees the first token of each line only.
    with torch.no_grad():
        firsts = torch.cat([model(torch.tensor([line])).last_hidden_state[:, 0] for line in tokens]).numpy()
    np.testing.assert_allclose(found["pooler.dense.weight"], (firsts**2).mean(0), rtol=1e-5)
    report = api.compress(folder, rules=["*.weight=int4"], stats=out, allow_unmatched=True).to_json()
    assert {row["name"] for row in report["tensors"] if row["output_error"]} == named


@needs_transformers
def test_weights_in_a_torch_file(folder: Path, text: Path, bale: Bale) -> None:
    model = bert_in(folder)
    before, after = (folder.with_name(name) for name in ("before", "after"))
    bale("stats", folder, "--text", text, "-o", before)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    bale("stats", folder, "--text", text, "-o", after)
    assert sha256(before) == sha256(after)


@needs_transformers
def test_the_same_file_again_and_never_over_another(folder: Path, text: Path, bale: Bale) -> None:
    bert_in(folder)
    before = names_in(folder)
    assert bale("stats", folder, "--text", text, "-q").out == ""
    out = folder.with_name("tiny.stats.safetensors")
    first = sha256(out)
    bale("stats", folder, "--text", text).failed(6, "exists already")
    said = bale("stats", folder, "--text", text, "-f")
    assert said.out == f"{out}: 13 tensors, from 4 lines, 32 tokens\n"
    assert sha256(out) == first
    assert names_in(folder) == before
    few = bale("stats", folder, "--text", text, "-f", "--json", "--lines", "2", "--length", "6").json
    assert (few["lines"], few["tokens"]) == (2, 5 + 6)
    for length in range(1, 4):
        few = bale("stats", folder, "--text", text, "-f", "--json", "--length", length).json
        assert (few["lines"], few["tokens"]) == (4, 4 * length)


@needs_transformers
@pytest.mark.parametrize("stored", ["with", "without"])
def test_a_head_on_the_model(folder: Path, text: Path, bale: Bale, stored: str) -> None:
    """The names of the folder's file count, whether it was saved with its head or not; tied weights have one entry."""
    bert_in(folder, "BertForMaskedLM" if stored == "with" else "BertModel")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    said = bale("stats", folder, "--text", text, "-o", folder.with_name("s"))
    assert said.code == 0
    assert "note" not in said.err
    found = load_file(folder.with_name("s"))
    known = matrices(folder / "model.safetensors")
    assert found.keys() <= known.keys()
    prefix = "bert." if stored == "with" else ""
    assert f"{prefix}encoder.layer.1.output.dense.weight" in found
    assert ("bert.embeddings.word_embeddings.weight" in found) == (stored == "with")  # the head's matrix is that one
    assert all(np.broadcast_shapes(array.shape, known[name]) == known[name] for name, array in found.items())


@needs_transformers
def test_a_decoder_with_matrices_the_other_way(folder: Path, text: Path, bale: Bale) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer_in(folder)
    assert bale("stats", folder, "--text", text, "-o", folder.with_name("s")).code == 0
    shapes = {name: array.shape for name, array in load_file(folder.with_name("s")).items()}
    assert shapes == {
        "transformer.h.0.attn.c_attn.weight": (16, 1),
        "transformer.h.0.attn.c_proj.weight": (16, 1),
        "transformer.h.0.mlp.c_fc.weight": (16, 1),
        "transformer.h.0.mlp.c_proj.weight": (64, 1),
        "transformer.wte.weight": (16,),
    }


@needs_transformers
def test_an_encoder_with_a_decoder(folder: Path, text: Path, bale: Bale) -> None:
    import transformers

    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer_in(folder)
    assert bale("stats", folder, "--text", text, "-o", folder.with_name("s")).code == 0
    assert "decoder.block.0.layer.1.EncDecAttention.k.weight" in load_file(folder.with_name("s"))


@needs_transformers
def test_models_that_will_not_do(folder: Path, text: Path, bale: Bale) -> None:
    bert_in(folder)
    out = folder.with_name("s")
    sound = (folder / "config.json").read_text()
    for change, words in (
        ({"model_type": "nothing-known", "architectures": ["NothingKnown"]}, "cannot load the config"),
        ({"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}, "cannot load"),
    ):
        (folder / "config.json").write_text(json.dumps({**json.loads(sound), **change}))
        (folder / "evil.py").write_text("raise SystemExit('run')")
        bale("stats", folder, "--text", text, "-o", out).failed(3, words)
    (folder / "config.json").write_text(sound)
    (folder / "tokenizer.json").write_text("{}")
    said = bale("stats", folder, "--text", text, "-o", out)
    said.failed(3, f"cannot load the tokenizer in {folder}: ", "Error: ")
    (folder / "tokenizer.json").unlink()
    write(folder / "model.safetensors", {"unrelated": weights(3, 3)})
    bale("stats", folder, "--text", text, "-o", out).failed(3, "no layer of the model has a weight of its name")
    (folder / "model.safetensors").unlink()
    bale("stats", folder, "--text", text, "-o", out).failed(3, "holds no weights")
    assert not out.exists()


@needs_transformers
def test_weights_that_are_missing_are_told(folder: Path, text: Path, bale: Bale) -> None:
    bert_in(folder)
    found = load_file(folder / "model.safetensors")
    del found["encoder.layer.1.output.dense.weight"]
    write(folder / "model.safetensors", found, {"format": "pt"})
    said = bale("stats", folder, "--text", text, "-o", folder.with_name("s"))
    assert said.code == 0
    assert f"{folder} lacks 1 of the weights of BertModel" in said.err
    assert "have no tensor for 1 of the layers, first encoder.layer.1.output.dense.weight" in said.err
