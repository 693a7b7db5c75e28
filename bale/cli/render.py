"""Printing: one object for each result of a verb, as text for people or as JSON for programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from bale.cli import signals
from bale.cli.progress import Counter, Show, bar
from bale.errors import BaleError, OutputError
from bale.notes import KINDS
from bale.notes import many as many
from bale.notes import size as size

HEARTBEAT = 10.0  # seconds between two lines of progress where there is no terminal
_LEAST = 24, 8  # columns of a terminal that a name, and another text, are not cut below
_CONTROL = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}  # line separators break lines as control characters do
_BETWEEN_WORDS = re.compile(r"(?<!\d) | (?!(?:[kMGT]?B|dB|%)(?!\w))")  # a number stays with its unit
_LAST_PART = re.compile(r"[^./:]*$")
_ORDER = re.compile(r"##(?=[^\s\[]{0,40}\[)")  # Azure's ##vso[...], TeamCity's ##teamcity[...], GitHub's older ##[...]

_SETTINGS = re.compile(r":[^+/]*")  # of the codecs of a pipeline


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
        self._told_compiling = False

    def result(self, document: Any, lines: Sequence[str]) -> None:
        """Print a result in the form that was asked for."""
        if self.as_json:
            emit_json(document)
        elif not self.quiet:
            emit("\n".join(map(harmless, lines)))

    def note(self, text: str) -> None:
        """Print a note for people."""
        if not self.quiet:
            for line in prose(f"bale: note: {plain(text)}", terminal_width(sys.stderr)):
                print(harmless(line), file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[str, int], None]]:
        """Show how far the work is: a bar on a terminal, now and then a line elsewhere; never more than all of it."""
        if self.quiet:
            yield lambda name, done: None
            return
        from bale.compressors.compiling import when_compiling

        shown: AbstractContextManager[Show] = nullcontext(_heartbeat(what))
        if not total:
            shown = nullcontext(lambda name, done, total: None)
        elif sys.stderr.isatty():
            shown = _bar(what, total)
        with when_compiling(self._say_compiling), shown as show:
            yield Counter(show, total)

    def _say_compiling(self) -> None:
        if not self._told_compiling:
            self._told_compiling = True
            self.note("compiling loops, as bale was built without a C compiler: it takes some seconds, once")


def emit(text: str) -> None:
    """Print to stdout; a failure is an `OutputError`, unless nobody reads any more."""
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
    known = {"code": error.code, "kind": error.kind, "message": error.message, "hint": error.hint}
    return {"error": known | error.details}


def print_error(error: BaleError, of: str = "") -> None:
    """One line on stderr, of failed gates one each with those of tensors below; `of` is the path, of several."""
    for line in error.lines:
        is_below = line.startswith(" ")
        say(line if is_below else f"error: {of}: {line}" if of else f"error: {line}")


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


def percent(part: float, whole: float) -> str:
    """A share for people."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def figure(value: float | None, digits: str = ".4g") -> str:
    """A number for people; a dash where there is none."""
    return "-" if value is None else format(value, digits)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    width: int | None = None,
    spare: Sequence[str] = (),
    wrap: bool = False,
) -> list[str]:
    """Aligned columns, the first `left` of them to the left; without a width nothing is cut, as for a pipe.

    Cells are made harmless before they are measured: escapes take room.

    Within a `width`, columns named in `spare` are left out until the rest fits, first to last; then texts are cut in
    the middle, or wrapped. Names in the first column lose first what long ones have in common.
    """
    cells = [list(head), *([harmless(cell) for cell in row] for row in rows)]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        kept, widths = _fitted(list(head), widths, left, width, spare)
        left = sum(column < left for column in kept)
        if not wrap and left and 0 in kept:
            names = shortened([row[0] for row in cells], widths[0])
            cells = [[name, *row[1:]] for name, row in zip(names, cells, strict=True)]
        fold = _wrapped if wrap else lambda cell, most: [middle(cell, most)]
        folded = [[fold(row[column], most) for column, most in zip(kept, widths, strict=True)] for row in cells]
        cells = [list(line) for row in folded for line in zip_longest(*row, fillvalue="")]
    return [
        "  ".join(
            cell + " " * (width - columns(cell)) if column < left else " " * (width - columns(cell)) + cell
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _fitted(
    head: list[str], widths: list[int], left: int, width: int, spare: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Which columns stay, and how wide they become: texts are narrowed, the widest first."""
    kept = list(range(len(head)))
    least = [min(most, _LEAST[column > 0]) if column < left else most for column, most in enumerate(widths)]
    for name in spare:
        if sum(least[column] + 2 for column in kept) - 2 > width and name in head:
            kept.remove(head.index(name))
    narrowed = [widths[column] for column in kept]
    while sum(narrowed) + 2 * (len(kept) - 1) > width:
        room = [each - least[column] for each, column in zip(narrowed, kept, strict=True)]
        if max(room) <= 0:
            break  # too narrow a terminal for anything but its own wrapping
        narrowed[max(range(len(kept)), key=lambda at: (room[at] > 0, narrowed[at]))] -= 1
    return kept, narrowed


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def columns(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide letters, none for marks above others."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def middle(text: str, width: int) -> str:
    """A text that takes no more columns than this, its middle replaced by an ellipsis if it is longer."""
    if columns(text) <= width:
        return text
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    while head + tail and columns(head) + 1 + columns(tail) > width:
        head, tail = (head[:-1], tail) if columns(head) > columns(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names that take no more columns than this, and still differ: first goes what all long ones begin or end with."""
    long = [name for name in dict.fromkeys(names) if columns(name) > width]
    if len(long) < 2:
        return [middle(name, width) for name in names]
    start = _common(long)
    end = _common([name[start:][::-1] for name in long])

    def cut(name: str) -> str:
        if columns(name) <= width:
            return name
        rest = f"…{name[start:]}" if start > 1 else name
        if columns(rest) > width and end > 1:
            rest = f"{rest[: len(rest) - end]}…"
        return middle(rest, width)

    return [cut(name) for name in names]


def _common(names: Sequence[str]) -> int:
    """Letters of the whole parts that all names begin with."""
    least = min(map(len, names))
    alike = next((at for at in range(least) if len({name[at] for name in names}) > 1), least)
    return len(_LAST_PART.sub("", names[0][:alike]))


def prose(text: str, width: int | None) -> list[str]:
    """A line, on a terminal in as many lines as it needs there, all but the first indented."""
    text = harmless(text)  # which takes room
    if width is None or columns(text) <= width:
        return [text]
    line, *words = (middle(word, width - 2) for word in _BETWEEN_WORDS.split(text))
    lines = [line]
    for word in words:
        if columns(lines[-1]) + 1 + columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}")
    return lines


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that stdout (or this) is; None where it is none, and lines may be as long as they are."""
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    try:
        own = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        own = os.terminal_size((80, 24))
    return max(20, shutil.get_terminal_size(own).columns)  # of COLUMNS, of stdout, or else of this


def shape_text(shape: Sequence[int]) -> str:
    """Dimensions for people."""
    return "x".join(map(str, shape)) or "-"


def with_files(document: dict[str, Any]) -> dict[str, Any]:
    """The same document to be shown: names that several files have are qualified by the file, as ``--tensor`` takes."""
    rows = document["tensors"]
    files: dict[str, set[str]] = {}
    for row in rows:
        files.setdefault(row["name"], set()).add(row["file"])
    several = {name for name, found in files.items() if len(found) > 1}
    shown = [{**row, "name": f"{row['file']}:{row['name']}"} if row["name"] in several else row for row in rows]
    return {**document, "tensors": shown}


def by_method(coverage: Mapping[str, Mapping[str, int]], key: str) -> dict[str, dict[str, int]]:
    """The sums of pipelines, of those that differ only in their settings together; `key` is that of their size."""
    groups: dict[str, list[str]] = {}
    for pipeline in coverage:
        groups.setdefault(_SETTINGS.sub("", pipeline), []).append(pipeline)
    found = {}
    for method, pipelines in groups.items():
        name = pipelines[0] if len(pipelines) == 1 else f"{method}, {len(pipelines)} settings"
        found[name] = {each: sum(coverage[p][each] for p in pipelines) for each in ("tensors", "original_bytes", key)}
    return found


def sized_cells(row: dict[str, Any], key: str) -> list[str]:
    """Cells of a tensor and of its size, the bytes that stand under `key`, up to its bits a weight."""
    cells = [row["name"], row["dtype"], shape_text(row["shape"]), row["pipeline"], size(row["original_bytes"])]
    if row["same_as"]:
        return [*cells, "-", "-"]
    return [*cells, size(row[key]), figure(row["bits_per_weight"], ".2f")]


def remarks(row: dict[str, Any]) -> str:
    """Notes on one row."""
    return "; ".join([*([f"same as {row['same_as']}"] if row["same_as"] else []), *row["notes"]])


def sized_table(
    head: Sequence[str], rows: Sequence[dict[str, Any]], cells: Callable[[dict[str, Any]], list[str]], width: int | None
) -> list[str]:
    """A table of tensors whose first four columns are those of `sized_cells`; in a pipe with their notes."""
    if width is None:
        return table((*head, "notes"), [[*cells(row), remarks(row)] for row in rows], left=4)
    return table(
        head,
        [cells(row) for row in rows],
        left=4,
        width=width,
        spare=("rule", "SNR", "shape", "dtype", "bytes", "floor"),
    )


def show_notes(printer: Printer, document: dict[str, Any], width: int | None, of: str = "") -> list[str]:
    """Show the notes of a document: on a terminal as the lines returned, elsewhere on stderr.

    There they have the name of the path, of several, that they are on: `of`.
    """
    if width is not None and not printer.as_json:
        return _notes_below(document, width)
    for note in document["notes"]:
        printer.note(f"{of}: {note}" if of else note)
    return []


def _notes_below(document: dict[str, Any], width: int) -> list[str]:
    """The notes of a document for the end of its text on a terminal: in groups, not a line for each tensor."""
    said = list(document["notes"])
    duplicates = [row for row in document["tensors"] if row["same_as"]]
    if duplicates:
        example = (
            f"{'such as ' if len(duplicates) > 1 else ''}{duplicates[0]['name']}, which is {duplicates[0]['same_as']}"
        )
        said.append(f"{many(len(duplicates), 'tensor')} stored once with another: {example}")
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in document["tensors"]:
        for kind, text in zip(row.get("note_kinds", ()), row.get("notes", ()), strict=True):
            summed_up = kind in KINDS and (KINDS[kind].left or KINDS[kind].summary)
            if not summed_up and not row["same_as"]:
                groups.setdefault(kind, []).append((row["name"], text))
    for group in groups.values():
        name, text = group[0]
        said.append(f"{name}: {text}" if len(group) == 1 else f"{many(len(group), 'tensor')}, such as {name}: {text}")
    return [line for text in said for line in prose(f"note: {plain(text)}", width)]


def file_bytes(path: Path) -> int:
    """Bytes of a file or of all files of a folder, for the progress bar; 0 when there is nothing to read."""
    try:
        if os.path.isdir(path):
            return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
        return os.path.getsize(path)
    except OSError:
        return 0


def _bar(what: str, total: int) -> AbstractContextManager[Show]:
    from rich.console import Console

    return bar(Console(stderr=True), harmless(what), total)


def _heartbeat(what: str) -> Show:
    begun = last = time.monotonic()

    def advance(name: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= HEARTBEAT:
            last = now
            say(f"{what}: {percent(done, total)} after {now - begun:.0f} s, at {name}")

    return advance
