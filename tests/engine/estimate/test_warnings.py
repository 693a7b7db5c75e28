"""What a plan warns of."""

from __future__ import annotations

import pytest

from bale.compressors.pipeline import Pipeline
from bale.engine.estimate.predict import Estimate, Predicted
from bale.engine.estimate.warnings import warnings
from bale.metrics import ErrorSums
from bale.planning.decide import Decision
from bale.spec import TensorSpec


def row(
    name: str = "w", pipeline: str = "int4", bits: float = 4.0, error: float | None = 0.1, same_as: str | None = None
) -> Predicted:
    spec = TensorSpec("F32", (100, 80))
    errors = None if error is None else ErrorSums(error**2, 1.0)
    estimate = Estimate(Decision(Pipeline.parse(pipeline), "a rule"), round(bits * spec.elements / 8), errors)
    return Predicted(name, "m.safetensors", spec, estimate, same_as, spec.nbytes)


def said(*rows: Predicted) -> dict[str, str]:
    return {note.kind: note.text for note in warnings(rows)}


def test_nothing_to_warn_of() -> None:
    assert not said(row(bits=1.5, error=0.5), row("other", "lossless", 0.2, None), row("again", same_as="w"))
    assert not said()


def test_few_bits_name_the_least() -> None:
    assert said(row(bits=1.2)) == {"few-bits": "w below 1.5 bits a weight (1.20)"}
    found = said(row("a", bits=1.4), row("b", bits=0.7), row("c"))
    assert found == {"few-bits": "2 tensors, such as b, below 1.5 bits a weight (0.70)"}


def test_large_errors_name_the_largest() -> None:
    assert said(row(error=0.6)) == {"large-error": "w with an error above 0.5 (0.6)"}
    found = said(row("a", error=0.51), row("b", error=0.9), row("c"))
    assert found == {"large-error": "2 tensors, such as b, with an error above 0.5 (0.9)"}


def test_what_repeats_a_tensor_is_not_warned_of_again() -> None:
    assert said(row("a", bits=1, error=0.9), row("b", bits=1, error=0.9, same_as="a")) == said(
        row("a", bits=1, error=0.9)
    )


@pytest.mark.parametrize(
    ("name", "other", "masked"),
    [
        ("layers.0.q_proj.weight", "layers.0.v_proj.weight", "layers.0.*_proj.weight"),
        ("encoder.0.attention.self.query.weight", "encoder.0.attention.self.key.weight", "self.*.weight"),
        ("h.0.attn.q.weight", "h.0.attn.k.weight", "h.0.attn.*.weight"),
        ("layer.0.q_lin.weight", "layer.0.k_lin.weight", "layer.0.*_lin.weight"),
    ],
)
def test_parts_of_one_attention_that_differ(name: str, other: str, masked: str) -> None:
    found = said(row(name, "int8"), row(other, "trellis:bits=4"))
    assert list(found) == ["unlike"]
    assert found["unlike"].endswith(f"{masked} by int and trellis")
    assert not said(row(name, "trellis:bits=3"), row(other, "trellis:bits=4"))


def test_parts_of_other_layers_may_differ() -> None:
    assert not said(row("layers.0.q_proj.weight", "int8"), row("layers.1.k_proj.weight", "trellis:bits=4"))
    assert not said(row("seq.weight", "int8"), row("sek.weight", "trellis:bits=4"))
