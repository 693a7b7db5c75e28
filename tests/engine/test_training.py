"""Training checkpoints: ``-p`` compresses the model in them and leaves the optimizer able to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bale
from tests.making import weights, write

OPTIMIZERS = ["AdamW", "Adam", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD", "SGD"]


def trained(name: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model after a few steps; rare rows have moments that are small beside those of others."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(300, 32), torch.nn.Linear(32, 300))
    more = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True}}
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-3, **more.get(name, {}))
    often = 1 / torch.arange(1.0, 301.0)
    for _ in range(5):
        tokens = torch.multinomial(often, 65, True)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens[:-1]), tokens[1:]).backward()
        optimizer.step()
    return model, optimizer


def flat(tree: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {key: value for label, child in items for key, value in flat(child, f"{name}.{label}").items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    model, optimizer = trained(name)
    for content in ({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, optimizer.state_dict()):
        torch.save(content, tmp_path / "train.pt")
        report = bale.compress(tmp_path / "train.pt", tmp_path / "t.bale", pipeline="int4", force=True)
        bale.decompress(tmp_path / "t.bale", tmp_path / "back.pt", force=True)
        back = torch.load(tmp_path / "back.pt", weights_only=True)
        before, after = flat(content), flat(back)
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed == ({".model.0.weight", ".model.1.weight"} if "model" in content else set())
        assert {"optimizer-state", "second-moment"} & {note.kind for note in report.all_notes}


def test_a_rule_still_codes_it_and_the_advice_is_a_safe_one(tmp_path: Path) -> None:
    model, optimizer = trained("AdamW")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "train.pt")
    report = bale.compress(tmp_path / "train.pt", tmp_path / "a.bale", pipeline="int4")
    (note,) = (note.text for note in report.all_notes if note.kind == "second-moment")
    assert "3 tensors" in note
    rule = note.split("--rule '")[1].split("'")[0]
    report = bale.compress(tmp_path / "train.pt", tmp_path / "b.bale", rules=[rule])
    assert set(report.totals["coverage"]) == {"lossless", "positive+int:zero=float"}
    bale.decompress(tmp_path / "b.bale", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)["optimizer"]["state"]
    for key, state in optimizer.state_dict()["state"].items():
        assert torch.equal(back[key]["exp_avg_sq"] > 0, state["exp_avg_sq"] > 0)


def test_what_is_never_negative_is_no_weight(tmp_path: Path) -> None:
    moments = weights(80, 80) ** 2
    late = np.abs(weights(1100, 1000, seed=1))
    late[-1, -1] = -1
    source = write(tmp_path / "m.safetensors", {"a": moments, "b": late, "c": weights(80, 80, seed=3)})
    report = bale.compress(source, pipeline="int8")
    assert [row.pipeline for row in report.rows] == ["lossless", "int8", "int8"]
    assert report.rows[0].notes[0].kind == "never-negative"
    planned = bale.plan(source, pipeline="int8")
    assert [str(row.decision.pipeline) for row in planned.files[0].tensors] == [row.pipeline for row in report.rows]
    report = bale.compress(source, pipeline="positive+int8", force=True)
    assert report.rows[0].pipeline == "positive+int8"
    report = bale.compress(source, rules=["a=int8"], force=True)
    assert report.rows[0].pipeline == "int8"


def test_a_pool_is_of_weights_alone(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.safetensors", {"w": weights(80, 80), "state.0.exp_avg": 1e-5 * weights(80, 80, seed=1)}
    )
    report = bale.compress(source, pipeline="trellis:error=0.02,pool=model")
    assert [row.exact for row in report.rows] == [False, True]


def test_a_quantized_checkpoint_keeps_its_scales(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "l.qweight": rng.integers(-(2**31), 2**31 - 1, (64, 128), dtype=np.int32),
        "l.scales": (rng.random((64, 128)) / 100).astype(np.float16),
        "head.weight": weights(64, 128),
    }
    report = bale.compress(write(tmp_path / "q.safetensors", tensors), pipeline="int4")
    assert {row.name: row.exact for row in report.rows} == {"l.qweight": True, "l.scales": True, "head.weight": False}
    (note,) = (note.text for note in report.all_notes if note.kind == "quantized")
    assert "quantized already" in note
    report = bale.compress(tmp_path / "q.safetensors", rules=["*.scales=int8"], force=True)
    assert report.rows[1].pipeline == "int8"


def test_what_p_leaves_is_one_line_by_kind(tmp_path: Path) -> None:
    many = {f"norm.{n}.bias": weights(64, seed=n) for n in range(9)} | {"ids": np.arange(5000).reshape(50, 100)}
    source = write(tmp_path / "m.safetensors", many | {"w": weights(80, 80), "norm.running_var": weights(64) ** 2})
    report = bale.compress(source, pipeline="int4")
    said = {note.kind: note.text for note in report.all_notes}
    assert said.keys() == {"buffer", "small"}
    assert "9 tensors (2.3 kB): fewer than 2 dimensions or 4,096 elements (such as norm." in said["small"]
    assert json.loads(json.dumps(report.to_json()))["note_kinds"] == list(said)
    assert bale.plan(source, pipeline="int4").to_json()["note_kinds"] == list(said)
    assert not bale.compress(source, force=True).all_notes


def test_what_touches_no_tensor_says_why(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"a": weights(80, 80), "b": weights(80, 80, seed=1) ** 2})

    def told(**choices: Any) -> list[str]:
        report = bale.compress(source, tmp_path / "m.bale", pipeline="int8", force=True, **choices)
        return [note.text for note in report.all_notes if note.kind == "untouched"]

    assert told() == []
    assert told(rules=["*=lossless"]) == ["-p int8 touches no tensor: rules choose all of them"]
    assert told(rules=["a=lossless"]) == ["-p int8 touches no tensor: what it could take has no negative values"]
    small = write(tmp_path / "m.safetensors", {"a": weights(8)})
    assert "at least 2 dimensions" in told()[0]
    assert small == source
