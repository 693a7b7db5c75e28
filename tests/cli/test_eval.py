"""The verb `eval`, on models as small as can be, against what transformers says of the same weights."""

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
from safetensors.numpy import load_file

import bale as api
from bale.cli import evaluate as verb
from bale.models import evaluate, heads
from tests.cli.conftest import Bale
from tests.making import weights, write

needs_transformers = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="no transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran"]]
LINES = ["the cat sat", "a dog ran and the cat sat on the mat", "on a mat", "the mat and the dog", *["the dog sat"] * 8]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32}


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Nothing is fetched: there are no connections."""
    found: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: found.append(address))
    yield found
    assert not found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tiny"
    made.mkdir()
    (made / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    kind = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (made / "tokenizer_config.json").write_text(json.dumps(kind))
    return made


def model_in(folder: Path, kind: str, **more: Any) -> Any:
    """A random model, far enough from indifference that its predictions differ."""
    import transformers

    torch.manual_seed(1)
    auto = {"Bert": transformers.BertConfig, "Llama": transformers.LlamaConfig, "Gemma": transformers.Gemma2Config}
    config_of = next((config for name, config in auto.items() if kind.startswith(name)), transformers.GPT2Config)
    config = config_of(
        **{"vocab_size": len(WORDS), "hidden_size": 16, "initializer_range": 0.3, "pad_token_id": 0, **SIZES, **more}
    )
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    return model


def changed(folder: Path, by: float = 3.0, cut: str = "") -> Path:
    """A checkpoint with other weights; names without a prefix."""
    found = load_file(folder / "model.safetensors")
    other = {name.removeprefix(cut): value + np.float32(by) * weights(*value.shape) for name, value in found.items()}
    return write(folder.parent / f"changed{cut}.safetensors", other)


def tokens_of(line: str) -> list[int]:
    return [2, *(WORDS.index(word) for word in line.split()), 3]


def predicted(model: Any, lines: list[list[int]]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(torch.tensor([line])).logits[0].double().log_softmax(-1) for line in lines]


@needs_transformers
@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "Gemma2ForCausalLM"])
def test_a_causal_model(folder: Path, text: Path, bale: Bale, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those of the logits that the whole model puts out, with tied weights and capped logits too."""
    import transformers

    monkeypatch.setattr(evaluate, "_TOKENS", 16)  # some lines together
    monkeypatch.setattr(heads, "_LOGITS", 3 * len(WORDS))  # and their logits in blocks

    more = {"final_logit_softcapping": 3.0, "head_dim": 8, "num_key_value_heads": 1} if kind.startswith("Gemma") else {}
    model_in(folder, kind, tie_word_embeddings=kind != "LlamaForCausalLM", **more)
    candidate = changed(folder)
    said = bale("eval", folder, folder / "model.safetensors", candidate, "--text", text, "--json")
    found = said.json
    lines = [tokens_of(line) for line in LINES]
    one = predicted(transformers.AutoModelForCausalLM.from_pretrained(folder), lines)
    own = folder.parent / "other"
    own.mkdir()
    (own / "config.json").write_bytes((folder / "config.json").read_bytes())
    write(own / "model.safetensors", load_file(candidate), {"format": "pt"})
    other = predicted(transformers.AutoModelForCausalLM.from_pretrained(own), lines)
    p, q = (torch.cat([each[:-1] for each in logs]) for logs in (one, other))
    truth = torch.tensor([token for line in lines for token in line[1:]])
    expected = {
        "kl": (p.exp() * (p - q)).sum(-1).mean(),
        "nll": -q.gather(-1, truth[:, None]).mean(),
        "top1": (p.argmax(-1) == q.argmax(-1)).double().mean(),
    }
    (row,) = found["candidates"]
    assert row["kl"]["value"] > 1e-3
    for name, value in expected.items():
        assert row[name]["value"] == pytest.approx(float(value), rel=1e-4), name
        assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
    assert row["perplexity"]["value"] == pytest.approx(float(expected["nll"].exp()), rel=1e-4)
    assert found["reference"]["nll"]["value"] == pytest.approx(float(-p.gather(-1, truth[:, None]).mean()), rel=1e-4)
    assert (found["task"], found["model"], found["lines"]) == ("causal", kind, len(LINES))
    assert (found["tokens"], found["predicted"]) == (sum(map(len, lines)), len(truth))


@needs_transformers
@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "BertForMaskedLM", "BertModel"])
def test_a_lossless_archive_is_exactly_the_reference(folder: Path, text: Path, bale: Bale, kind: str) -> None:
    model_in(folder, kind)
    lossless, lossy = (folder.parent / f"{name}.bale" for name in ("lossless", "int4"))
    api.compress(folder, lossless)
    api.compress(folder / "model.safetensors", lossy, rules=["*weight=int4"])
    said = bale("eval", folder, folder, lossy, lossless, folder, "--text", text, "--json")
    lost, *same = said.json["candidates"]
    main, best = ("divergence", "cosine") if kind == "BertModel" else ("kl", "top1")
    assert lost[main]["value"] > 0
    assert lost["tokens_needed"] > 0
    for row in same:
        assert row[main] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert row[best] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert row["tokens_needed"] is None
        if "nll" in row:
            assert row["nll"] == said.json["reference"]["nll"]


@needs_transformers
def test_an_encoder(folder: Path, text: Path, bale: Bale) -> None:
    model = model_in(folder, "BertModel")
    candidate = changed(folder)
    row = bale("eval", folder, folder, candidate, "--text", text, "--json").json["candidates"][0]

    def embed() -> torch.Tensor:
        with torch.no_grad():
            rows = [model(torch.tensor([tokens_of(line)])).last_hidden_state[0].mean(0) for line in LINES]
        return torch.stack(rows).double()

    before = embed()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(candidate).items()})
    cosine = torch.nn.functional.cosine_similarity(before, embed()).mean()
    assert row["cosine"]["value"] == pytest.approx(float(cosine), abs=1e-6)
    assert row["divergence"]["value"] == pytest.approx(1 - float(cosine), rel=1e-4)


@needs_transformers
def test_a_masked_model_is_asked_where_the_mask_is(folder: Path, text: Path, bale: Bale) -> None:
    model_in(folder, "BertForMaskedLM")
    said = bale("eval", folder, folder, changed(folder), "--text", text, "--json").json
    assert said["task"] == "masked"
    assert said["predicted"] == 11 + 2  # one of each line, two of the line of ten words
    again = bale("eval", folder, folder, changed(folder), "--text", text, "--json").json
    assert again == said


@needs_transformers
def test_names_with_and_without_the_prefix(folder: Path, text: Path, bale: Bale) -> None:
    model_in(folder, "LlamaForCausalLM")
    plain, cut = changed(folder), changed(folder, cut="model.")
    one, other = bale("eval", folder, folder, plain, cut, "--text", text, "--json").json["candidates"]
    assert {**one, "name": ""} == {**other, "name": ""}


@needs_transformers
def test_a_head_that_was_not_saved_is_told(folder: Path, text: Path, bale: Bale) -> None:
    """And another task needs none; nor does any need a pooler."""
    model_in(folder, "BertForMaskedLM")
    found = load_file(folder / "model.safetensors")
    bare = {name: value for name, value in found.items() if name.startswith("bert.")}
    write(folder / "model.safetensors", bare)
    said = bale("eval", folder, folder, folder, "--text", text)
    said.failed(3, f"{folder} lacks 5 of the tensors of BertForMaskedLM", "--task")
    assert bale("eval", folder, folder, folder, "--text", text, "--task", "encoder").code == 0


@needs_transformers
def test_the_table(folder: Path, text: Path, bale: Bale, monkeypatch: pytest.MonkeyPatch) -> None:
    model_in(folder, "LlamaForCausalLM")
    candidate = changed(folder)
    said = bale("eval", folder, folder, candidate, "--text", text, "--tokens", "60")
    head, reference, row, *rest = said.out.splitlines()
    assert head.split() == ["weights", "KL", "95", "%", "perplexity", "top-1"]
    assert reference.split()[:3] == [str(folder), "-", "-"]
    assert row.split()[0] == str(candidate)
    assert rest[0] == "LlamaForCausalLM, FP32: 10 lines, 59 tokens, 49 predictions"
    assert rest[1].startswith("KL within 5 % takes about --tokens ")
    assert "judge by KL" in rest[2]
    assert said.err == ""
    monkeypatch.setattr(verb, "terminal_width", lambda: 60)
    assert max(map(len, bale("eval", folder, folder, candidate, "--text", text).out.splitlines())) <= 60
    few = bale("eval", folder, folder, candidate, "--text", text, "--tokens", "1", "--json").json
    assert (few["lines"], few["tokens"], few["candidates"][0]["kl"]["high"]) == (1, 5, None)


@needs_transformers
def test_gates_go_by_the_worse_end(folder: Path, text: Path, bale: Bale) -> None:
    model_in(folder, "LlamaForCausalLM")
    little, much = changed(folder, 0.5), folder.parent / "much.safetensors"
    changed(folder, 8).rename(much)
    little = changed(folder, 0.5)
    run = ("eval", folder, folder, little, much, "--text", text)
    good, bad = bale(*run, "--json").json["candidates"]
    between = (bad["kl"]["value"] + bad["kl"]["high"]) / 2
    assert bale(*run, "--fail-if", f"kl > {2 * bad['kl']['high']}").code == 0
    said = bale(*run, "--fail-if", f"kl > {between}")
    assert said.code == 5
    assert f"gate failed: kl > {between}: it is " in said.err
    assert f"in {much}; figures are the worse ends of intervals" in said.err
    assert "weights" in said.out  # which is printed all the same
    same = (bad["top1"]["value"] + bad["top1"]["low"]) / 2
    failed = bale(*run, "--fail-if", f"top1 < {same}", "--json")
    assert failed.code == 5
    assert [each["name"] for each in failed.json["error"]["gates"][0]["tensors"]] == [str(much)]
    assert failed.json["candidates"] == [good, bad]
    said = bale(*run, "--fail-if", "kl > 0")
    assert "the worst of 2 candidates" in said.err
    few = bale(*run, "--tokens", "1", "--fail-if", "kl > 100")
    assert few.code == 5  # of one line the end is not known


def test_gates_that_make_no_sense(folder: Path, text: Path, bale: Bale) -> None:
    for architecture, gate, words in (
        ("LlamaForCausalLM", "kl >", "not an expression"),
        ("LlamaForCausalLM", "cosine < 0.9", "eval does not know cosine"),
        ("BertModel", "kl > 0.1", "eval --task encoder does not know kl"),
        ("BertModel", "ratio < 2", "does not know ratio"),
    ):
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        bale("eval", folder, "x", "y", "--text", text, "--fail-if", gate).failed(2, words)
    bale("eval", folder, "x", "y", "--text", text, "--task", "none").failed(2, "no task 'none'", "causal, masked")


def test_what_is_no_model(tmp_path: Path, text: Path, bale: Bale) -> None:
    model, stored = tmp_path / "model", write(tmp_path / "m.safetensors", {"w": weights(2, 2)})
    bale("eval", model, stored, stored, "--text", text).failed(3, "model: no such file")
    model.mkdir()
    bale("eval", model, stored, stored, "--text", text).failed(3, "has no config.json")
    (model / "config.json").write_text("{}")
    bale("eval", model, stored, stored, "--text", text).failed(3, "has no tokenizer")
    (model / "vocab.txt").touch()
    bale("eval", model, stored, tmp_path / "none", "--text", text).failed(3, "none: no such file")
    bale("eval", model, stored, stored, "--text", tmp_path / "none").failed(3, "none")
    bale("eval", model, stored, "--text", text).failed(2, "CANDIDATE")


def test_without_transformers(folder: Path, text: Path, bale: Bale, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").write_text("{}")
    stored = write(folder / "model.safetensors", {"w": weights(2, 2)})
    monkeypatch.setitem(sys.modules, "transformers", None)
    bale("eval", folder, stored, stored, "--text", text).failed(2, "not installed", "pip install '.[transformers]'")


@needs_transformers
def test_weights_of_another_model(folder: Path, text: Path, bale: Bale) -> None:
    model_in(folder, "LlamaForCausalLM")
    sound = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    without = {key: value for key, value in sound.items() if key != name}
    bad = {
        "lacks 1 of the tensors of LlamaForCausalLM: model.layers.1.mlp.up_proj.weight": without,
        f"is of another model: {name} is [8, 16], and [24, 16] in LlamaForCausalLM": {**sound, name: weights(8, 16)},
        "is not finite": {**sound, name: np.full((24, 16), np.nan, "<f4")},
    }
    for words, tensors in bad.items():
        path = write(folder.parent / "bad.safetensors", tensors)
        bale("eval", folder, folder, path, "--text", text).failed(3, str(path), words)
        bale("eval", folder, path, folder, "--text", text).failed(3, str(path), words)


@needs_transformers
def test_tied_weights_that_are_not_alike(folder: Path, text: Path, bale: Bale) -> None:
    model_in(folder, "LlamaForCausalLM", tie_word_embeddings=True)
    sound = load_file(folder / "model.safetensors")
    path = write(folder.parent / "bad.safetensors", {**sound, "lm_head.weight": weights(len(WORDS), 16)})
    bale("eval", folder, folder, path, "--text", text).failed(3, str(path), "lm_head.weight", "one tensor in the model")


@needs_transformers
def test_a_text_with_nothing_to_predict(folder: Path, tmp_path: Path, bale: Bale) -> None:
    model_in(folder, "LlamaForCausalLM")
    text = tmp_path / "text"
    text.write_text("the\n")
    bale("eval", folder, folder, folder, "--text", text, "--length", "1").failed(3, "anything to predict")
