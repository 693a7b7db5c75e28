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
    """The work on one path: its document, its lines for people, and bytes before and after; 0 where there are none."""

    document: dict[str, Any] | None
    lines: Sequence[str]
    before: int = 0
    after: int = 0
    skipped: bool = False


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
            code = code or error.code
            print_error(_named(error, item) if chosen.several else error)
            results.append({"name": item.text, "code": error.code, **error_document(error)})
            continue
        found.append(done)
        if printer.as_json:
            said = {"skipped": True} if done.skipped else {}
            results.append({"name": item.text, "code": 0, **said, **(done.document or {})})
        else:
            printer.result(None, done.lines)
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


def _named(error: BaleError, item: Given) -> BaleError:
    """An error that names its source among several."""
    if re.search(rf"(?<![^\s'`(]){re.escape(str(item.path))}(?![^\s'`),.:;/])", error.message):
        return error
    return BaleError(f"{item.text}: {error.message}", error.hint)


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
