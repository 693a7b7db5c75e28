"""Logits behind the hidden states, and figures of predictions against those by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bale.errors import UsageError
from bale.models import heads
from bale.models.heads import Head
from bale.models.measures import Embeddings, Line, Predictions


class Model(nn.Module):
    """Embeds tokens, and does something with the logits."""

    def __init__(self, last: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits, cap: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head, self.last = nn.Embedding(7, 4), nn.Linear(4, 7), last
        text = SimpleNamespace(final_logit_softcapping=cap or None)
        self.config = SimpleNamespace(get_text_config=lambda: text)

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        assert attention_mask.all()
        hidden = self.words(input_ids)
        return SimpleNamespace(logits=self.last(self.head(hidden)), last_hidden_state=hidden)


@pytest.fixture(autouse=True)
def inference() -> object:
    with torch.inference_mode():
        yield


def test_what_a_model_does_with_logits_is_found() -> None:
    for scale, cap in ((1.0, 0.0), (0.25, 0.0), (1.0, 2.0), (8.0, 2.0)):

        def last(logits: torch.Tensor, scale: float = scale, cap: float = cap) -> torch.Tensor:
            return cap * torch.tanh(scale * logits / cap) if cap else scale * logits

        model = Model(last, cap)
        head = Head.of(model).fitted(model, [1, 2, 3])
        assert head.scale == pytest.approx(scale, rel=1e-3)
        states = torch.randn(5, 4)
        torch.testing.assert_close(head.logits(states), last(model.head(states)), rtol=1e-3, atol=1e-3)


def test_what_is_not_known_is_refused() -> None:
    model = Model(torch.square)
    with pytest.raises(UsageError, match="changes logits behind its head"):
        Head.of(model).fitted(model, [1, 2, 3])
    model.get_output_embeddings = lambda: None  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="has no head"):
        Head.of(model)


def test_predictions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_LOGITS", 14)  # blocks of two
    model = Model()
    measure = Predictions(model)
    line = Line([1, 2, 3, 4], [0, 1, 2], [2, 3, 4])
    targets = torch.tensor(line.targets)
    measure.keep(line)
    before, p = measure.states([line]), model(torch.tensor([line.tokens]), torch.ones(1)).logits[0, :3].log_softmax(-1)
    figures = measure.reference(before, targets)
    model.words.weight += 0.5
    model.head.weight *= 2
    after, q = measure.states([line]), model(torch.tensor([line.tokens]), torch.ones(1)).logits[0, :3].log_softmax(-1)
    found = measure.candidate(before, figures, after, targets)
    expected = [(p.exp() * (p - q)).sum(-1), -q[range(3), targets], (p.argmax(-1) == q.argmax(-1)).double()]
    torch.testing.assert_close(found, torch.stack(expected, 1).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(figures[:, 0], -p[range(3), targets].double(), rtol=1e-5, atol=1e-6)


def test_embeddings_by_hand() -> None:
    measure = Embeddings(Model())
    one, other = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0], [1.0, 0.0]])
    found = measure.candidate(one, one[:, :0], other, torch.zeros(3))
    torch.testing.assert_close(found[:, 0], torch.tensor([1.0, 0.0, 1 - 0.5**0.5]).double())
