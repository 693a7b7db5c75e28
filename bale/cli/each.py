"""The same work for every path: each result is printed, a failure is that of its path alone, and a last line counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bale.cli.failures import unexpected
from bale.cli.given import Chosen, Given
from bale.cli.render import Printer, error_document, many, percent, print_error, prose, size, terminal_width
from bale.errors import BaleError


@dataclass(frozen=True)
class Done:
    """The work on one path: its document, its lines for people, and bytes before and after; 0 where there are none.

    It may have failed all the same, at a check of what it found.
    """

    document: dict[str, Any] | None
    lines: Sequence[str]
    before: int = 0
    after: int = 0
    skipped: bool = False
    failure: BaleError | None = None

    def to_json(self) -> dict[str, Any]:
        """Its result, behind the name of the path."""
        said = {"skipped": True} if self.skipped else {}
        document = {**said, **(self.document or {})}
        if self.failure is None:
            return {"code": 0, **document}
        return {"code": self.failure.code, **document, **error_document(self.failure)}


def each(printer: Printer, chosen: Chosen, work: Callable[[Given], Done], word: str = "done") -> int:
    """Do the work for every path, whatever happens to one, and return the exit code: that of the first failure.

    `word` says in the last line of those that succeeded what they are.
    """
    results: list[dict[str, Any]] = []
    found: list[Done] = []
    code = 0
    for item in chosen.paths:
        try:
            done = _try(work, item)
        except BaleError as error:
            done = Done(None, (), failure=error)
        if printer.as_json:
            results.append({"name": item.text, **done.to_json()})
        elif done.lines:
            printer.result(None, done.lines)
        if done.failure is None:
            found.append(done)
        else:
            code = code or done.failure.code
            print_error(done.failure, item.text if chosen.several and not _names(done.failure, item) else "")
    if printer.as_json:
        printer.result({"results": results, "summary": _summary(chosen, found)}, ())
    elif chosen.several:
        printer.result(None, prose(_last_line(chosen, found, word), terminal_width()))
    return code


def _try(work: Callable[[Given], Done], item: Given) -> Done:
    try:
        return work(item)
    except (BaleError, BrokenPipeError):
        raise
    except Exception as problem:
        raise unexpected(problem) from None


def _names(error: BaleError, item: Given) -> bool:
    """Whether an error names its source among several."""
    return bool(re.search(rf"(?<![^\s'`(]){re.escape(str(item.path))}(?![^\s'`),.:;/])", error.message))


def _summary(chosen: Chosen, found: Sequence[Done]) -> dict[str, Any]:
    skipped = sum(done.skipped for done in found)
    return {
        "done": len(found) - skipped,
        "skipped": skipped,
        "failed": len(chosen.paths) - len(found),
        "passed_over": [item.text for item in chosen.passed_over],
        "bytes_before": sum(done.before for done in found),
        "bytes_after": sum(done.after for done in found),
    }


def _last_line(chosen: Chosen, found: Sequence[Done], word: str) -> str:
    sums = _summary(chosen, found)
    counts = ((sums["done"], word), (sums["skipped"], "there already"), (sums["failed"], "failed"))
    said = [f"{count} {name}" for count, name in counts if count]
    if chosen.passed_over:
        said.append(f"{many(len(chosen.passed_over), 'by-product')} passed over")
    before, after = sums["bytes_before"], sums["bytes_after"]
    sizes = f"{size(before)} -> {size(after)} ({percent(after, before)})" if before else size(after) if after else ""
    return ", ".join(said) + (f": {sizes}" if sizes else "")
