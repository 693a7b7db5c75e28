"""The protocol of a format that models are exported to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bale.engine.run import Run
from bale.errors import UsageError
from bale.export.model import Model, Stored
from bale.io.folders.marked import CONFIG
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Piece:
    """A tensor of an exported file; `make` gives its bytes when it is written."""

    name: str
    spec: TensorSpec
    make: Callable[[], Iterable[Array]]


@dataclass(frozen=True)
class Carried:
    """A tensor whose numbers are carried over.

    Attributes
    ----------
    scheme : str
        How it is stored there, in words: equal for tensors that are stored alike.
    pieces : tuple of Piece
        What is written in its place.
    settings : mapping
        What the format's config says of it; equal for equal schemes.
    beside : mapping
        What is written into files of their own, by the name of the file.
    """

    scheme: str
    pieces: tuple[Piece, ...]
    settings: Mapping[str, Any]
    beside: Mapping[str, tuple[Piece, ...]] = field(default_factory=dict)


class NotCarried(Exception):
    """The numbers of a tensor have no form in the format; `setting` would give them one."""

    def __init__(self, reason: str, setting: str) -> None:
        super().__init__(reason)
        self.reason, self.setting = reason, setting


class Target(ABC):
    """A format. It decides by tensor, and writes the config that says so."""

    name: ClassVar[str]
    summary: ClassVar[str]
    needs_config: ClassVar[bool] = True
    """Whether what loads it goes by a ``config.json``, so that only a model's folder can be exported."""

    def check(self, model: Model) -> None:
        """Raise `UsageError` for a model that it is not for."""
        if self.needs_config and model.config is None:
            raise UsageError(
                f"{model.path} has no {CONFIG}, which what loads {self.name} goes by",
                "compress the model's folder, and export that",
            )

    @abstractmethod
    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:
        """How a lossy tensor is carried over; None for its decoded values.

        Raises
        ------
        NotCarried
            Where neither is right: the numbers would have to be rounded again.
        """

    def together(self, name: str) -> str | None:
        """A key that is equal for tensors that must be stored alike, if there are such."""
        return None

    def config(self, config: Mapping[str, Any], carried: Mapping[str, Carried], dense: Iterable[str]) -> dict[str, Any]:
        """The model's config with what the format adds to it."""
        return dict(config)

    def texts(self, config: Mapping[str, Any], carried: Mapping[str, Carried]) -> dict[str, str]:
        """Further files of text, by name."""
        return {}


@dataclass(frozen=True)
class Order:
    """What is to be written into which file: of each tensor its piece, of some because they are carried over."""

    model: Model
    carried: Mapping[str, Carried]
    pieces: Mapping[str, Piece]
    out: Path
    run: Run
    force: bool


class FileTarget(Target):
    """A format that is one file of its own, where others are folders of safetensors files."""

    @abstractmethod
    def write(self, order: Order) -> int:
        """Write the file, whole or not at all; returns its size."""


def dense(tensor: Stored) -> Piece:
    """A tensor with its decoded values."""
    return Piece(tensor.name, tensor.spec, tensor.blocks)
