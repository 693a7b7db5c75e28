"""A transformers model in a folder: loading it, running it on lines of text, and its names in the folder's files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from bale.engine.reading.listing import open_folder, without_options
from bale.errors import SourceError, UsageError
from bale.io.storage.files import check_readable, reason

_TOKENS = 1 << 12  # in one call of the model
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "*.bpe.model")


@dataclass(frozen=True)
class Model:
    """A loaded model with its tokenizer.

    Attributes
    ----------
    stored : mapping of str to set of tuple of int
        Names and shapes of all tensors in the folder's weight files.
    prefix : str
        Prefix of the names of the base model's parameters where it has a head; names in files may lack it.
    notes : tuple of str
        Remarks for the user on how it was loaded.
    """

    torch_model: Any
    tokenizer: Any
    stored: Mapping[str, set[tuple[int, ...]]]
    prefix: str
    notes: tuple[str, ...]

    def stored_name(self, name: str, shape: tuple[int, ...]) -> str | None:
        """The name of a parameter in the files: as in the model, or without or with the base model's prefix."""
        start = f"{self.prefix}."
        for candidate in (name, name.removeprefix(start), start + name):
            if shape in self.stored.get(candidate, ()):
                return candidate
        return None

    def tokens_of(self, lines: Sequence[str], length: int) -> list[list[int]]:
        """The numbers of the tokens of each line, at most `length`."""
        longest = getattr(self.torch_model.config, "max_position_embeddings", None)
        most = min(length, self.tokenizer.model_max_length, longest if isinstance(longest, int) else length)
        with _explained("the tokenizer cannot read the text"):
            found = self.tokenizer(list(lines), truncation=True, max_length=most)["input_ids"]
        return [list(each)[:most] for each in found]  # tokenizers cut nothing where special tokens alone are more

    def run(self, lines: Sequence[Sequence[int]], done: Callable[[int], None]) -> None:
        """Run lines of tokens; those of equal length together, so that nothing is padded.

        `done` is called with the place of each line that has been run.
        """
        import torch

        order = sorted(range(len(lines)), key=lambda place: len(lines[place]))
        for length, group in groupby(order, key=lambda place: len(lines[place])):
            while length and (places := list(islice(group, max(1, _TOKENS // length)))):
                tokens = torch.tensor([lines[place] for place in places])
                given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
                if getattr(self.torch_model.config, "is_encoder_decoder", False):
                    given["decoder_input_ids"] = tokens
                with torch.inference_mode(), _explained(f"{type(self.torch_model).__name__} cannot be run on text"):
                    self.torch_model(**given)
                for place in places:
                    done(place)


def check_model(folder: Path) -> None:
    """Raise `SourceError` for a folder that has no config or no tokenizer; their contents are not read."""
    check_readable(folder)
    if not os.path.isdir(folder):
        raise SourceError(f"{folder} is not a folder", "name the folder of a transformers model")
    if not os.path.isfile(folder / "config.json"):
        raise SourceError(f"{folder} has no config.json", "name the folder of a transformers model")
    if not any(path.is_file() for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise SourceError(f"{folder} has no tokenizer", "put its files, like tokenizer.json, beside the weights")


def load_model(folder: Path) -> Model:
    """Load the model in a folder that `check_model` passes; nothing is fetched, and no code from the folder is run.

    Raises
    ------
    UsageError
        When transformers or torch is not installed.
    SourceError
        When there are no weights, or it cannot be loaded.
    """
    stored = _stored_in(folder)
    try:
        import torch
        import transformers
    except ImportError:
        raise UsageError(
            "bale stats runs models with transformers and torch, which are not installed",
            "pip install '.[transformers]' in a clone of bale",
        ) from None
    torch.manual_seed(0)  # for weights that are missing
    with _explained(f"cannot load the config in {folder}"):
        config = transformers.AutoConfig.from_pretrained(folder, **_LOCAL)
    with _explained(f"cannot load the tokenizer in {folder}"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
    with _explained(f"cannot load the model in {folder}"):
        model, missing = _best(transformers, config, folder)
    notes: tuple[str, ...] = ()
    if missing:
        what = f"{folder} lacks {len(missing)} of the weights of {type(model).__name__}, first {missing[0]}"
        notes = (f"{what}: they are random, and so is what goes through them",)
    return Model(model.float().eval(), tokenizer, stored, str(getattr(model, "base_model_prefix", "")), notes)


def _best(transformers: Any, config: Any, folder: Path) -> tuple[Any, list[str]]:
    """The model of the class that the folder names, or of the bare one if that finds more of its weights there."""
    names = getattr(config, "architectures", None) or ()
    named = [getattr(transformers, str(name), None) for name in names]
    classes = [each for each in named if hasattr(each, "from_pretrained")]
    best: tuple[Any, list[str]] | None = None
    for each in (*classes, transformers.AutoModel):
        model, loading_info = each.from_pretrained(folder, config=config, output_loading_info=True, **_LOCAL)
        missing = sorted(loading_info["missing_keys"])
        if best is None or len(missing) < len(best[1]):
            best = model, missing
        if not missing:
            break
    assert best is not None
    return best


def _stored_in(folder: Path) -> dict[str, set[tuple[int, ...]]]:
    """Names and shapes of all tensors in the weight files of a folder."""
    found: dict[str, set[tuple[int, ...]]] = {}
    with without_options():
        checkpoints = open_folder(folder, "put them beside the config").checkpoints
    for checkpoint in checkpoints.values():
        for view in (view for unit in checkpoint.units for view in unit.views):
            found.setdefault(view.name, set()).add(view.spec.shape)
    return found


def read_lines(path: Path, most: int) -> list[str]:
    """The first lines of a text that are not empty; `SourceError` when there are none."""
    try:
        with open(path, encoding="utf-8") as text:
            lines = list(islice((line.strip() for line in text if line.strip()), most))
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {reason(problem)}", "check the path and its permissions") from None
    except UnicodeDecodeError as problem:
        raise SourceError(f"{path} is not text in UTF-8: {problem.reason} at byte {problem.start}") from None
    if not lines:
        raise SourceError(f"{path} has no text in it", "give a line for each text that the model is to see")
    return lines


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever transformers raises into a `SourceError`; its other output is discarded."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except MemoryError:
            raise
        except Exception as problem:
            said = next(iter(str(problem).strip().splitlines()), "")
            raise SourceError(f"{what}: {type(problem).__name__}{said and f': {said}'}") from None
