"""Lines of a text: reading them, their tokens, and which are run together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from bale.errors import SourceError
from bale.io.storage.files import reason
from bale.models.folder import explained


def read_lines(path: Path, most: int | None = None) -> list[str]:
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


def tokens_of(tokenizer: Any, config: Any, lines: Sequence[str], length: int) -> list[list[int]]:
    """The numbers of the tokens of each line, at most `length`, and no more than the model takes."""
    longest = getattr(config, "max_position_embeddings", None)
    most = min(length, tokenizer.model_max_length, longest if isinstance(longest, int) else length)
    with explained("the tokenizer cannot read the text"):
        found = tokenizer(list(lines), truncation=True, max_length=most)["input_ids"]
    return [list(each)[:most] for each in found]  # tokenizers cut nothing where special tokens alone are more


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The places of lines that are run together: those of equal length, so that nothing is padded.

    About `tokens` are in one call of the model; lines of length 0 are left out.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for length, group in groupby(order, key=lambda place: lengths[place]):
        while length and (places := list(islice(group, max(1, tokens // length)))):
            yield places
