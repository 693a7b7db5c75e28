"""Which rows of a table are shown, and in which order: the worst first, and what is lossless or equal as one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

import typer

T = TypeVar("T")
ON_A_TERMINAL = 20


class Sort(StrEnum):
    """An order of rows: by error or size the largest first, by name, or as they lie in the file."""

    error = "error"
    name = "name"
    size = "size"
    file = "file"


SortOption = Annotated[
    Sort | None,
    typer.Option(
        "--sort", metavar="ORDER", help="Order of the rows: error or size (largest first), name, or file (as they lie)."
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Show every row, also of what is equal or lossless.")]
TopOption = Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Show so many rows at most.")]


@dataclass(frozen=True)
class Keys(Generic[T]):
    """What rows are ordered by."""

    error: Callable[[T], float]
    name: Callable[[T], str]
    size: Callable[[T], int]


def ranked(rows: Sequence[T], keys: Keys[T], sort: Sort) -> list[T]:
    """Rows in this order; what is equal in it stays in file order."""
    if sort is Sort.error:
        return sorted(rows, key=lambda row: -keys.error(row))
    if sort is Sort.size:
        return sorted(rows, key=lambda row: -keys.size(row))
    return sorted(rows, key=keys.name) if sort is Sort.name else list(rows)


def on_a_terminal(width: int | None, show_all: bool) -> int | None:
    """How many rows are shown where nobody said how many: what fits a terminal, and everything in a pipe."""
    return None if width is None or show_all else ON_A_TERMINAL


def first(rows: list[T], top: int | None) -> tuple[list[T], list[str]]:
    """The rows to show, and a line on how many more there are."""
    if top is None or len(rows) <= top:
        return rows, []
    return rows[:top], [f"... {len(rows) - top} more; --all"]
