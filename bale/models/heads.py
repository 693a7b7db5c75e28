"""What a language model predicts: from the last hidden states, by its head, in blocks of tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bale.errors import UsageError

if TYPE_CHECKING:
    import torch

_LOGITS = 1 << 23  # numbers in one block of logits: 32 MiB
_CLOSE = 1e-4  # relative: both are FP32, computed in another order


@dataclass(frozen=True)
class Head:
    """The last matrix of a model, and what the model does with its output.

    Attributes
    ----------
    module : torch.nn.Module
        What `get_output_embeddings` of transformers gives; its inputs are what is called hidden states here.
    scale, cap : float
        Some models scale logits, and some bend them to `cap` * tanh(x / `cap`); 0 for those that do not.
    """

    module: Any
    scale: float = 1.0
    cap: float = 0.0

    @classmethod
    def of(cls, model: Any) -> Head:
        """The head of a model of transformers."""
        module = model.get_output_embeddings()
        if module is None:
            raise UsageError(f"{type(model).__name__} has no head that predicts tokens", "give another --task")
        return cls(module)

    def kept(self) -> Head:
        """A copy, which stays when other weights are loaded."""
        return replace(self, module=copy.deepcopy(self.module))

    def fitted(self, model: Any, tokens: Sequence[int]) -> Head:
        """The head with the scale and the cap that the logits of the whole model show on a line.

        Raises
        ------
        UsageError
            When the model does something else with logits.
        """
        import torch

        with self.caught() as caught:
            run(model, [tokens])
        plain, logits = self.module(caught[-1]), run(model, [tokens]).logits
        config = model.config.get_text_config()
        cap = getattr(config, "final_logit_softcapping", None) or 0.0
        if cap:
            logits = cap * torch.atanh((logits / cap).clamp(-1 + 1e-6, 1 - 1e-6))
        scale = float((plain * logits).sum() / plain.square().sum())
        scale = 1.0 if abs(scale - 1) < _CLOSE else scale
        if logits.shape != plain.shape or (scale * plain - logits).norm() > 100 * _CLOSE * logits.norm():
            raise UsageError(f"{type(model).__name__} changes logits behind its head in a way that is not known here")
        return replace(self, scale=scale, cap=cap)

    @contextmanager
    def caught(self) -> Iterator[list[torch.Tensor]]:
        """The inputs of the head while the model runs; no logits are computed."""
        found: list[torch.Tensor] = []

        def catch(hidden: torch.Tensor) -> torch.Tensor:
            found.append(hidden)
            return hidden[..., :1]

        self.module.forward = catch
        try:
            yield found
        finally:
            del self.module.forward

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logits of a block of hidden states."""
        import torch

        found: torch.Tensor = self.module(states)
        if self.scale != 1:
            found *= self.scale
        if self.cap:
            found = torch.tanh_(found.div_(self.cap)).mul_(self.cap)
        return found

    def blocks(self, rows: int) -> Iterator[slice]:
        """Blocks of tokens whose logits are held at a time."""
        step = max(1, _LOGITS // self.module.weight.shape[0])
        yield from (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def run(model: Any, lines: Sequence[Sequence[int]]) -> Any:
    """The outputs of a model for lines of equally many tokens."""
    import torch

    tokens = torch.tensor(lines)
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
