"""Tensors that are seen in a pickle and cannot be described: they are counted, and kept without a name."""

from __future__ import annotations

from bale.io.faults import printable
from bale.notes import Note, many


class Undescribed(Exception):
    """The reason why the bytes of a tensor are kept without a name."""


class Reasons:
    """Counts reasons; keeps the first name of each."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one more."""
        self._first.setdefault(reason, name)
        self._count[reason] = self._count.get(reason, 0) + 1

    def notes(self) -> list[Note]:
        """One note for each reason."""
        return [
            Note(
                "undescribed",
                f"{many(self._count[reason], 'tensor')} kept as bytes without a name, "
                f"{'the first ' * (self._count[reason] > 1)}{printable(name)!r}: it {reason}",
            )
            for reason, name in self._first.items()
        ]
