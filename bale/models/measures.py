"""What is measured of a model beside its reference: what it predicts, or what it makes of a line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bale.errors import UsageError
from bale.models.heads import Head, run

if TYPE_CHECKING:
    import torch

_PROBE = 16  # tokens of the line on which the head is tried


@dataclass(frozen=True)
class Line:
    """A line of text as a model is given it.

    Attributes
    ----------
    tokens : list of int
        What the model sees.
    places, targets : list of int
        Where it predicts, and what there is in truth.
    """

    tokens: list[int]
    places: list[int]
    targets: list[int]


class Measure(ABC):
    """What is measured; rows are predictions, or lines.

    The columns of `reference` are averaged for the reference, and given to `candidate` again for the same rows.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @abstractmethod
    def keep(self, line: Line) -> None:
        """Keep what else is needed of the reference, now that it is loaded."""

    @abstractmethod
    def states(self, lines: Sequence[Line]) -> torch.Tensor:
        """Run the model on lines of equally many tokens; returns a row of the last hidden states for each row."""

    @abstractmethod
    def reference(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """A row of figures for each row of the reference's states."""

    @abstractmethod
    def candidate(
        self, of_reference: torch.Tensor, figures: torch.Tensor, states: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """A row of figures for each row of a candidate's states, with the reference's states and figures."""


class Predictions(Measure):
    """Of each prediction what the reference says by itself, and of a candidate KL, NLL, top-1."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._head = Head.of(model)
        self._kept = self._head

    def keep(self, line: Line) -> None:
        """Keep the reference's head."""
        self._head = self._head.fitted(self.model, line.tokens[:_PROBE])
        self._kept = self._head.kept()

    def states(self, lines: Sequence[Line]) -> torch.Tensor:
        """The inputs of the head where a token is predicted."""
        import torch

        with self._head.caught() as caught:
            run(self.model, [line.tokens for line in lines])
        if len(caught) != 1 or caught[0].shape[:2] != (len(lines), len(lines[0].tokens)):
            raise UsageError(f"{type(self.model).__name__} does not predict a token at each place", "see --task")
        return torch.cat([caught[0][at, line.places] for at, line in enumerate(lines)])

    def reference(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """NLL, logarithm of the sum of the exponentials, best token."""
        import torch

        found = []
        for block in self._kept.blocks(len(states)):
            logits = self._kept.logits(states[block].clone())
            total = torch.logsumexp(logits, -1)
            nll = total - logits.gather(-1, targets[block, None])[:, 0]
            found.append(torch.stack([nll.double(), total.double(), logits.argmax(-1).double()], 1))
        return torch.cat(found)

    def candidate(
        self, of_reference: torch.Tensor, figures: torch.Tensor, states: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """KL divergence from the reference, NLL, whether the best token is the same.

        Rows that are equal have a divergence of exactly 0: all that is computed of both is computed alike.
        """
        import torch

        found = []
        for block in self._kept.blocks(len(states)):
            logits = self._head.logits(states[block].clone())
            total = torch.logsumexp(logits, -1)
            nll = total - logits.gather(-1, targets[block, None])[:, 0]
            same = logits.argmax(-1) == figures[block, 2]
            expected = self._kept.logits(of_reference[block].clone())
            logits.sub_(expected)
            probabilities = expected.sub_(figures[block, 1, None].float()).exp_()
            shift = total.double() - figures[block, 1]
            kl = shift - probabilities.mul_(logits).sum(-1).double()
            found.append(torch.stack([kl, nll.double(), same.double()], 1))
        return torch.cat(found)


class Embeddings(Measure):
    """Of each line 1 - cosine of the means of its last hidden states."""

    def keep(self, line: Line) -> None:
        """Nothing is needed."""

    def states(self, lines: Sequence[Line]) -> torch.Tensor:
        """The means over the tokens of lines, as sentence encoders take them."""
        found: torch.Tensor = run(self.model, [line.tokens for line in lines]).last_hidden_state.mean(1)
        return found

    def reference(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Nothing."""
        return states[:, :0].double()

    def candidate(
        self, of_reference: torch.Tensor, figures: torch.Tensor, states: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """1 - cosine, as half the squared distance of unit vectors: exactly 0 for what is equal."""
        import torch

        one, other = (torch.nn.functional.normalize(each.double(), dim=-1) for each in (of_reference, states))
        return (one - other).square().sum(-1, keepdim=True) / 2
