"""The capability of codecs that meet a number of bits, or an error: one tensor by itself, or several together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from bale.compressors.base import Transform, Values
from bale.spec import Array


class Member(Protocol):
    """A tensor whose size and error are wanted for steps, held by a sample."""

    @property
    def elements(self) -> int:
        """Number of its values."""

    @property
    def norm2(self) -> float:
        """Their sum of squares."""

    @property
    def finest(self) -> float:
        """Binary logarithm of the least step that makes a difference."""

    def curve(self) -> tuple[Array, Array, Array] | None:
        """Logarithms of steps, bits a value and logarithms of squared errors with them, roughly; None for zeros."""

    def trial(self, step: float, measured: bool) -> Any:
        """`size` of the whole tensor with a step, and `error2` if that is to be measured."""


Trials = Callable[[float, bool], Sequence[Any]]
"""Calls `Member.trial` of all members of a pool."""


class RateControlled(Transform):
    """A codec with a target.

    Budgets and pools know it by this alone: no codec is named by the engine.
    """

    bits: float | None
    """Stored bits a weight, at most."""

    @property
    @abstractmethod
    def relative_error(self) -> float | None:
        """Relative error in the Frobenius norm, at most."""

    @property
    @abstractmethod
    def is_pooled(self) -> bool:
        """Whether all tensors of a pipeline meet the target together."""

    @abstractmethod
    def with_bits(self, bits: float) -> Self:
        """The same codec with a number of bits as its target."""

    @abstractmethod
    def with_error(self, error: float) -> Self:
        """The same codec with a relative error as its target."""

    @abstractmethod
    def with_step(self, step: float) -> Self:
        """The same codec with a step in place of its target."""

    @abstractmethod
    def near(self, step: float) -> Self:
        """The same codec with a step at which the search for its target begins."""

    @abstractmethod
    def member(self, values: Values, most: int) -> Member:
        """A tensor, of which it keeps a sample of about `most` elements; `Refused` for NaN or infinity."""

    @abstractmethod
    def common_step(self, members: Sequence[Any], trials: Trials) -> float | None:
        """The step with which all members meet the target together, or None where none does."""
