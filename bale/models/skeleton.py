"""A model without weights, which are those of one checkpoint or archive after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.engine.reading.open import open_tensors
from bale.errors import SourceError, UsageError
from bale.models.folder import explained

_FEW = 3  # names in a message


@dataclass(frozen=True)
class Skeleton:
    """A transformers model in FP32, whose weights are loaded in place.

    Attributes
    ----------
    unused : str
        Names that begin so need not be in a file: what they name is not run.
    """

    torch_model: Any
    unused: str = ""

    @classmethod
    def of(cls, config: Any, auto_class: str, folder: Path, unused: str = "") -> Skeleton:
        """The model of a config, by a class of transformers; it takes no time for random weights."""
        import torch
        import transformers
        from transformers.initialization import no_init_weights

        config.use_cache = False
        with explained(f"cannot make a model of the config in {folder}"), no_init_weights():
            model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
            model.tie_weights()
        return cls(model.eval(), unused)

    @property
    def name(self) -> str:
        """What transformers calls the model."""
        return type(self.torch_model).__name__

    def check(self, path: Path) -> None:
        """Raise `SourceError` where a checkpoint lacks tensors of the model, or has them in other shapes."""
        with _named(path), open_tensors(path) as tensors:
            shapes = {name: spec.shape for name, spec in tensors.specs.items()}
        names = {own: name for name, own in self._names(shapes).items()}
        aliases: dict[int, list[str]] = {}
        state = self.torch_model.state_dict(keep_vars=True)
        for name, each in state.items():
            aliases.setdefault(id(each), []).append(name)
            if name in names and shapes[names[name]] != tuple(each.shape):
                found = list(shapes[names[name]])
                raise SourceError(
                    f"{path} is of another model: {names[name]} is {found}, and {list(each.shape)} in {self.name}",
                    "give checkpoints of the model whose config is in MODEL_DIR",
                )
        lacking = [all_names[0] for all_names in aliases.values() if not names.keys() & all_names]
        if self.unused:
            lacking = [name for name in lacking if not name.startswith(self.unused)]
        if lacking:
            some = ", ".join(lacking[:_FEW]) + (", ..." if len(lacking) > _FEW else "")
            raise SourceError(
                f"{path} lacks {len(lacking)} of the tensors of {self.name}: {some}",
                "give checkpoints of the model whose config is in MODEL_DIR, or another --task",
            )

    def load(self, path: Path) -> None:
        """Load weights that `check` has passed, in place of those that the model had."""
        from bale.torch import load_into

        with open_tensors(path) as tensors:
            names = self._names(tensors)
        with _named(path):
            load_into(self.torch_model, path, names=names, strict=False)

    def _names(self, stored: Iterable[str]) -> Mapping[str, str]:
        """The model's names of stored tensors: the same, or without or with the prefix of what has no head."""
        start = f"{self.torch_model.base_model_prefix}."
        own = self.torch_model.state_dict(keep_vars=True).keys()
        known = set(stored)
        found = {}
        for name in own:
            ways = (name, name.removeprefix(start), start + name)
            first = next((each for each in ways if each in known), None)
            if first is not None:
                found[first] = name
        return found


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of usage name the checkpoint, and are those of a file here."""
    try:
        yield
    except UsageError as problem:
        raise SourceError(f"{path}: {problem.message}", problem.hint) from None
