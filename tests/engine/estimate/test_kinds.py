"""Kinds of tensors, by names, structure and the model's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bale.engine.estimate.kinds import kinds_of
from bale.planning.allocate import EMBEDDING, FIRST, SECOND, TIED, WEIGHT
from bale.planning.decide import LOSSLESS, Decision, FilePlan
from bale.spec import TensorSpec, Unit, View


def found(folder: Path, config: object | None = None, **shapes: tuple[int, ...]) -> dict[str, str]:
    """Kinds by name; double underscores stand for dots."""
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    specs = {name.replace("__", "."): TensorSpec("F32", shape) for name, shape in shapes.items()}
    units = tuple(Unit(at << 30, spec, (View(name, spec),)) for at, (name, spec) in enumerate(specs.items()))
    plan = FilePlan(units, (Decision(LOSSLESS, "default"),) * len(units))
    kinds = kinds_of([plan], folder)
    return {unit.label: kinds[id(unit)] for unit in units}


MODEL: dict[str, Any] = {"model__embed_tokens__weight": (1000, 64), "model__layers__0__mlp__weight": (64, 256)}
HEAD: dict[str, Any] = {"lm_head__weight": (1000, 64)}


@pytest.mark.parametrize(
    ("config", "more", "kind"),
    [
        (None, {}, WEIGHT),
        ("no JSON", {}, WEIGHT),
        ("[1]", {}, WEIGHT),
        ("[" * 100_000, {}, WEIGHT),
        ({"architectures": ["LlamaForCausalLM"]}, {}, TIED),
        ({"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}, {}, TIED),
        ({"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}, {}, EMBEDDING),
        ({"architectures": ["LlamaForCausalLM"]}, HEAD, EMBEDDING),
        ({"architectures": ["BertModel"]}, {}, EMBEDDING),
        ({"architectures": ["T5ForConditionalGeneration"]}, {}, TIED),
        ({"architectures": 7, "tie_word_embeddings": False}, {}, EMBEDDING),
        ({}, {}, TIED),
    ],
)
def test_embeddings(tmp_path: Path, config: object, more: dict[str, Any], kind: str) -> None:
    kinds = found(tmp_path, config, **MODEL, **more)
    assert kinds["model.embed_tokens.weight"] == kind
    assert kinds["model.layers.0.mlp.weight"] == WEIGHT


@pytest.mark.parametrize(
    "name",
    [
        "embeddings__word_embeddings__weight",
        "transformer__wte__weight",
        "shared__weight",
        "decoder__embeddings__weight",
    ],
)
def test_names_of_embeddings(tmp_path: Path, name: str) -> None:
    kinds = found(tmp_path, {"architectures": ["BertModel"]}, **{name: (1000, 64), "position_embeddings__x": (512, 64)})
    assert list(kinds.values()) == [EMBEDDING, WEIGHT]


def test_an_embedding_has_two_dimensions(tmp_path: Path) -> None:
    assert found(tmp_path, {}, embed__weight=(1000,)) == {"embed.weight": WEIGHT}


def test_moments(tmp_path: Path) -> None:
    shape = (64, 64)
    kinds = found(
        tmp_path,
        w=shape,
        optimizer_states__0__state__0__exp_avg=shape,
        optimizer_states__0__state__0__exp_avg_sq=shape,
    )
    assert list(kinds.values()) == [WEIGHT, FIRST, SECOND]
