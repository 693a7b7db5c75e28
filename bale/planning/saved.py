"""A plan as a file: a choice for every tensor, as `plan --save` writes it and `compress -r` obeys it."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bale.compressors.pipeline import Pipeline
from bale.errors import UsageError
from bale.notes import Note

_LOSSLESS = "lossless"


@dataclass(frozen=True)
class SavedChoice:
    """The choice for one tensor: its pipeline, the fallback where the data does not suit it, and the reason."""

    name: str
    pipeline: Pipeline
    rule: str
    fallback: Pipeline
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class SavedPlan:
    """The choices of one file, in its order; of tensors with one name the first is in the first file of the source."""

    path: Path
    choices: tuple[SavedChoice, ...]


def read_plan(path: Path, data: dict[str, Any]) -> SavedPlan:
    """Read the document of a saved plan. Raises `UsageError` for one that is not as `plan_text` writes it."""
    where = f"the plan {path}"
    if "rule" in data:
        raise UsageError(f"{where} has rules too", "a saved plan has a [[tensor]] for each tensor, and nothing else")
    tensors = data["tensor"]
    if not isinstance(tensors, list) or not all(isinstance(item, dict) for item in tensors):
        raise UsageError(f"{where}: tensors are written as [[tensor]]")
    return SavedPlan(path, tuple(_choice(item, f"{where}: tensor {number}") for number, item in enumerate(tensors, 1)))


def plan_text(command: str, choices: Iterable[SavedChoice]) -> str:
    """The TOML document of a plan.

    Raises
    ------
    UsageError
        For a name that no TOML file can hold.
    """
    lines = [f"# {line}" for line in command.splitlines()]
    found = list(choices)
    lines += [] if found else ["", "tensor = []"]
    for choice in found:
        lines += ["", "[[tensor]]", f"name = {_quoted(choice.name)}", f"pipeline = {_quoted(str(choice.pipeline))}"]
        lines.append(f"rule = {_quoted(choice.rule)}")
        if str(choice.fallback) != _LOSSLESS:
            lines.append(f"fallback = {_quoted(str(choice.fallback))}")
        if choice.notes:
            notes = ", ".join(f"[{_quoted(note.kind)}, {_quoted(note.text)}]" for note in choice.notes)
            lines.append(f"notes = [{notes}]")
    return "\n".join(lines) + "\n"


def _choice(item: dict[str, Any], origin: str) -> SavedChoice:
    check_keys(item, ("name", "pipeline", "rule", "fallback", "notes"), origin)
    texts = {key: item.get(key, default) for key, default in (("rule", "saved plan"), ("fallback", _LOSSLESS))}
    for key in ("name", "pipeline"):
        if key not in item:
            raise UsageError(f"{origin} has no {key}", f'write {key} = "..."')
        texts[key] = item[key]
    for key, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{origin}: {key} = {reprlib.repr(value)} is not a text")
    notes = item.get("notes", [])
    pairs = isinstance(notes, list) and all(isinstance(note, list) and len(note) == 2 for note in notes)
    if not pairs or not all(isinstance(text, str) for note in notes for text in note):
        raise UsageError(f"{origin}: notes = {reprlib.repr(notes)} are not pairs of a kind and a text")
    fallback = parse_pipeline(texts["fallback"], origin)
    if not fallback.lossless or fallback.transforms or fallback.rest is not None:
        raise UsageError(f"{origin}: {fallback} is no fallback", "write lossless, or lossless:effort=max")
    pipeline = parse_pipeline(texts["pipeline"], origin)
    return SavedChoice(texts["name"], pipeline, texts["rule"], fallback, tuple(Note(*note) for note in notes))


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{reprlib.repr(text)} cannot be written in a TOML file", "use rules instead") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def check_keys(item: Iterable[str], keys: tuple[str, ...], where: str) -> None:
    """Raise `UsageError` for a key of `item` that is none of those allowed."""
    for key in item:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(keys)}"
            raise UsageError(f"{where}: there is no key {reprlib.repr(key)}", hint)


def parse_pipeline(text: str, origin: str) -> Pipeline:
    """Read a pipeline; an error says where it stands."""
    try:
        return Pipeline.parse(text)
    except UsageError as problem:
        raise UsageError(f"{origin}: {problem.message}", problem.hint) from None
