"""Kinds of tensors by their names."""

from __future__ import annotations

import pytest

from bale.planning.kinds import KINDS_OF_RULES, kind_of
from bale.planning.roles import Roles
from bale.spec import TensorSpec, Unit, View

MATRIX, SCALAR = TensorSpec("F32", (64, 64)), TensorSpec("F32", ())


def kinds(*names: str, **specs: TensorSpec) -> dict[str, str | None]:
    views = [View(name, specs.get(name, MATRIX)) for name in names]
    roles = Roles(views)
    return {view.name: kind_of(Unit(0, view.spec, (view,)), roles) for view in views}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.0.mlp.up_proj.weight", "weight"),
        ("layer.bias", "weight"),
        ("lm_head.weight", "weight"),
        ("model.embed_tokens.weight", "embedding"),
        ("embeddings.word_embeddings.weight", "embedding"),
        ("transformer.wte.weight", "embedding"),
        ("shared.weight", "embedding"),
        ("bert.embeddings.LayerNorm.weight", "weight"),
        ("optimizer.state.0.exp_avg", "first-moment"),
        ("optimizer.state.0.exp_avg_sq", "second-moment"),
        ("optimizer.state.0.max_exp_avg_sq", "second-moment"),
        ("optimizer.state.0.momentum_buffer", "first-moment"),
        ("optimizer.state.0.step", None),
        ("optimizer.state.0.exp_inf", "second-moment"),
        ("opt_state/0/mu/Dense_0/kernel", "first-moment"),
        ("opt_state/0/nu/Dense_0/kernel", "second-moment"),
        ("optimizer_state_dict.single_partition_of_fp32_groups.0", None),  # master weights
        ("layer.weight_scale_inv", "weight"),  # there are no codes beside it
        ("attn.causal_mask", None),
        ("bn.running_var", None),
    ],
)
def test_kinds(name: str, kind: str | None) -> None:
    assert kinds(name)[name] == kind
    assert kind is None or kind in KINDS_OF_RULES


def test_what_is_not_floating_point_has_none() -> None:
    assert kinds("w", w=TensorSpec("I64", (64, 64))) == {"w": None}


def test_an_embedding_is_a_matrix() -> None:
    assert kinds("embed", embed=TensorSpec("F32", (64,))) == {"embed": "weight"}


def test_scales_of_codes_have_none() -> None:
    assert kinds("a.qweight", "a.scales", **{"a.qweight": TensorSpec("I32", (64, 64))})["a.scales"] is None
