"""A transformers model in a folder: loading it, running it on lines of text, and its names in the folder's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.engine.reading.listing import open_folder, without_options
from bale.models.folder import LOCAL, check_installed, explained, load_config, load_tokenizer
from bale.models.lines import batches, tokens_of

_TOKENS = 1 << 12  # in one call of the model


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
        return tokens_of(self.tokenizer, self.torch_model.config, lines, length)

    def run(self, lines: Sequence[Sequence[int]], done: Callable[[int], None]) -> None:
        """Run lines of tokens; those of equal length together, so that nothing is padded.

        `done` is called with the place of each line that has been run.
        """
        import torch

        for places in batches([len(line) for line in lines], _TOKENS):
            tokens = torch.tensor([lines[place] for place in places])
            given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            if getattr(self.torch_model.config, "is_encoder_decoder", False):
                given["decoder_input_ids"] = tokens
            with torch.inference_mode(), explained(f"{type(self.torch_model).__name__} cannot be run on text"):
                self.torch_model(**given)
            for place in places:
                done(place)


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
    check_installed()
    import torch
    import transformers

    torch.manual_seed(0)  # for weights that are missing
    config, tokenizer = load_config(folder), load_tokenizer(folder)
    with explained(f"cannot load the model in {folder}"):
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
        model, loading_info = each.from_pretrained(folder, config=config, output_loading_info=True, **LOCAL)
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
