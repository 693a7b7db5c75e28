"""Printing: one object for what a verb says, as text for people or as JSON for programs."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bale.cli import signals
from bale.errors import BaleError, OutputError

T = TypeVar("T")
HEARTBEAT = 10.0  # seconds between two lines of progress where there is no terminal
_CONTROL = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}  # line separators break lines as control characters do
_ORDER = re.compile(r"##(?=[^\s\[]{0,40}\[)")  # Azure's ##vso[...], TeamCity's ##teamcity[...], GitHub's older ##[...]


class Printer:
    """Results to stdout; notes, progress and errors to stderr.

    Parameters
    ----------
    as_json : bool
        Whether stdout gets one JSON document instead of text.
    quiet : bool
        Whether notes and progress are left out, and text results too.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def result(self, document: Any, lines: Sequence[str]) -> None:
        """Print a result in the form that was asked for."""
        if self.as_json:
            emit_json(document)
        elif not self.quiet:
            emit("\n".join(map(harmless, lines)))

    def note(self, text: str) -> None:
        """Print a note for people."""
        if not self.quiet:
            say(f"note: {text}")

    def each(self, paths: Sequence[Path], work: Callable[[Path], tuple[Any, list[str]]]) -> int:
        """Do the work for every path, print each result, and return the exit code: that of the first failure."""
        documents, code = [], 0
        for path in paths:
            try:
                document, lines = work(path)
                if not self.as_json:
                    self.result(document, lines)
            except BaleError as error:
                if len(paths) == 1:
                    raise
                code = code or error.code
                document = {"name": str(path), **error_document(error)}
                print_error(error)
            documents.append(document)
        if self.as_json:
            self.result(documents[0] if len(paths) == 1 else {"results": documents}, ())
        return code

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[str, int], None]]:
        """Show how far the work is: a bar on a terminal, now and then a line elsewhere."""
        if self.quiet or not total:
            yield lambda name, done: None
        elif sys.stderr.isatty():
            with _bar(what, total) as advance:
                yield advance
        else:
            yield _heartbeat(what, total)


def emit(text: str) -> None:
    """Print to stdout; what fails is an `OutputError`, unless it is that nobody reads any more."""
    try:
        print(text)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise OutputError(f"cannot write to stdout: {problem.strerror}") from None


def emit_json(document: Any) -> None:
    """Print JSON to stdout, in ASCII: names of whatever letters pass through any pipe and harm no terminal."""
    signals.answer(True)
    emit(json.dumps(document, allow_nan=False, indent=1).replace("##", r"#\u0023"))  # see `harmless`


def say(text: str) -> None:
    """Print one line to stderr."""
    print(harmless(f"bale: {text}"), file=sys.stderr, flush=True)


def error_document(error: BaleError) -> dict[str, Any]:
    """The JSON form of an error."""
    return {"error": {"code": error.code, "kind": error.kind, "message": error.message, "hint": error.hint}}


def print_error(error: BaleError) -> None:
    """One line on stderr."""
    say(f"error: {error}")


def plain(text: str) -> str:
    """Text without control characters and line breaks: names come from files that nobody has vouched for."""
    if text.isprintable():
        return text
    return "".join("�" if unicodedata.category(letter) in _CONTROL else letter for letter in text)


def harmless(line: str) -> str:
    """One line that no runner of CI jobs takes for an order, whatever names are in it.

    GitHub's obeys lines that begin with ``::``, behind white space too; older and other ones obey ``##word[`` anywhere.
    """
    line = _ORDER.sub(r"#\\u0023", plain(line))
    text = line.lstrip()
    return f"{line[: len(line) - len(text)]}\\{text}" if text.startswith("::") else line


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def percent(part: float, whole: float) -> str:
    """A share for people."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def many(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def figure(value: float | None, digits: str = ".4g") -> str:
    """A number for people; a dash where there is none."""
    return "-" if value is None else format(value, digits)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Aligned columns, the first `left` of them to the left; nothing is cut, so that the output can be piped."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def shape_text(shape: Sequence[int]) -> str:
    """Dimensions for people."""
    return "x".join(map(str, shape)) or "-"


def sized_cells(row: dict[str, Any], key: str) -> list[str]:
    """Cells of a tensor and of what it takes, the bytes that stand under `key`, up to its bits a weight."""
    cells = [row["name"], row["dtype"], shape_text(row["shape"]), row["pipeline"], size(row["original_bytes"])]
    if row["same_as"]:
        return [*cells, "-", "-"]
    return [*cells, size(row[key]), figure(row["bits_per_weight"], ".2f")]


def remarks(row: dict[str, Any]) -> str:
    """What there is to say of a tensor."""
    return "; ".join([*([f"same as {row['same_as']}"] if row["same_as"] else []), *row["notes"]])


def file_bytes(path: Path) -> int:
    """Bytes of a file or of all files of a folder, for the progress bar; 0 when there is nothing to read."""
    try:
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
        return os.path.getsize(path)
    except OSError:
        return 0


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[str, int], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(escape(harmless(what)), total=total)
        yield lambda name, done: shown.advance(task, done)


def _heartbeat(what: str, total: int) -> Callable[[str, int], None]:
    begun = last = time.monotonic()
    count = 0

    def advance(name: str, done: int) -> None:
        nonlocal last, count
        count += done
        now = time.monotonic()
        if now - last >= HEARTBEAT:
            last = now
            say(f"{what}: {percent(count, total)} after {now - begun:.0f} s, at {name}")

    return advance
