"""Choice and order of the rows of a table: the worst first, and lossless or equal ones as one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

import typer

from bale.errors import UsageError

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
TopOption = Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Show at most this many rows.")]


@dataclass(frozen=True)
class Keys(Generic[T]):
    """Sort keys of a row."""

    error: Callable[[T], float]
    name: Callable[[T], str]
    size: Callable[[T], int]


def ranked(rows: Sequence[T], keys: Keys[T], sort: Sort) -> list[T]:
    """Rows in this order; equal ones stay in file order."""
    if sort is Sort.error:
        return sorted(rows, key=lambda row: -keys.error(row))
    if sort is Sort.size:
        return sorted(rows, key=lambda row: -keys.size(row))
    return sorted(rows, key=keys.name) if sort is Sort.name else list(rows)


@dataclass(frozen=True)
class Choice:
    """The options on rows to show: their order, and how many; one helper, so that verbs agree.

    Without them a terminal gets what fits it, and a pipe every row.
    """

    sort: Sort | None
    show_all: bool
    top: int | None

    def __post_init__(self) -> None:
        if self.show_all and self.top is not None:
            raise UsageError(f"--all shows every row, and --top {self.top} does not", "leave out one of them")

    def first(
        self, rows: Sequence[T], keys: Keys[T], width: int | None, default: Sort = Sort.error, cut: bool = True
    ) -> tuple[list[T], list[str]]:
        """The rows to show, and a line on how many more there are; with `cut` a terminal gets no more than fit it."""
        ordered = ranked(rows, keys, self.sort or default)
        top = self.top
        if top is None and cut and width is not None and not self.show_all:
            top = ON_A_TERMINAL
        if top is None or len(ordered) <= top:
            return ordered, []
        instead = "" if self.top is None else f" instead of --top {top}"
        return ordered[:top], [f"... {len(ordered) - top} more; --all{instead}"]
