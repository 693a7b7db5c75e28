"""Paths of the command line, with the words that they were given by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bale.cli.render import Printer, many
from bale.errors import OutputError, UsageError
from bale.io.names import own_name


@dataclass(frozen=True)
class Given:
    """A path and the text that names it; a last ``/`` says that it is a folder."""

    text: str
    path: Path

    @property
    def is_folder(self) -> bool:
        """Whether results go into it: a folder that is there, or one that is to be made."""
        return self.text.endswith(os.sep) or os.path.isdir(self.path)


def to_path(text: str) -> Path:
    """A path of the command line; whether it can be read is found when it is, and reported alike by every verb."""
    if not text:
        raise UsageError("an empty path stands for no file", "name one; is a variable of the shell unset?")
    if "\0" in text:
        raise UsageError(f"{text!r} is no path: it has a zero byte", "name a file")
    if text == "-":
        reason = "bale works on files, as an archive's header is written last; only `decompress -o -` takes a stream"
        raise UsageError(f"`-` is refused: {reason}", "name a file (./- is one of this name)")
    return Path(text)


def given(text: str) -> Given:
    """A path that is named in results as it was given."""
    return Given(text, to_path(text))


def given_or_stdout(text: str) -> Given:
    """The same where ``-`` stands for stdout."""
    return Given(text, Path(text)) if text == "-" else given(text)


def shown(path: Path) -> str:
    """A path as it was typed; of ``.`` and ``..`` the name that the folder has."""
    return str(path) if path.name not in ("", "..") else own_name(path)


def preset_or_path(text: str) -> str:
    """A recipe as it was given: ``./NAME`` is a file, even where ``NAME`` is a preset."""
    to_path(text)
    return text


@dataclass(frozen=True)
class Chosen:
    """The paths to work on, and those that are passed over: the results of earlier work."""

    paths: tuple[Given, ...]
    passed_over: tuple[Given, ...] = ()
    several: bool = False


def choose(
    printer: Printer, paths: Sequence[Given], is_by_product: Callable[[Path], bool], base: Path | None = None
) -> Chosen:
    """Leave out by-products, the base and paths that come twice, with a note; what is named alone is never left out."""
    once = {os.path.abspath(item.path): item for item in reversed(paths)}
    left = list(reversed(once.values()))
    if len(left) < len(paths):
        printer.note(f"{many(len(paths) - len(left), 'path')} given twice: each is worked on once")
    several = len(left) > 1
    if several and any(_is_same(item.path, base) for item in left):
        left = [item for item in left if not _is_same(item.path, base)]
        printer.note(f"{base} is the base, and passed over")
    products = [item for item in left if is_by_product(item.path)] if several else []
    if products:
        example = f"{'such as ' if len(products) > 1 else ''}{products[0].text}"
        printer.note(f"{many(len(products), 'by-product')} of earlier work passed over: {example}")
    passed_over = set(products)
    kept = tuple(item for item in left if item not in passed_over)
    return Chosen(kept, tuple(products), several)


def _is_same(path: Path, base: Path | None) -> bool:
    return base is not None and os.path.exists(path) and os.path.exists(base) and os.path.samefile(path, base)


@dataclass(frozen=True)
class Place:
    """Where a result goes: to a path, into a folder, or by default beside its source."""

    out: Path | None = None
    into: Path | None = None


def places(
    chosen: Chosen, out: Given | None, is_target: Callable[[Path, Given], bool] = lambda source, out: False
) -> dict[Given, Place]:
    """The place for the result of each source: of several, whatever is left of them, a folder that is made if need be.

    Sources of one name keep the folders that tell them apart. `is_target` says of a single source that a folder which
    is there is the result itself, and not the folder that it goes into.
    """
    sources = chosen.paths
    if out is None:
        return dict.fromkeys(sources, Place())
    if not chosen.several and (not out.is_folder or is_target(sources[0].path, out)):
        return {sources[0]: Place(out=out.path)}
    if not out.is_folder and os.path.lexists(out.path):
        raise OutputError(
            f"{out.path} is not a folder, and there are several sources", "name a folder, or leave out -o"
        )
    return {item: Place(into=out.path / tail.parent) for item, tail in zip(sources, _tails(sources), strict=True)}


def _tails(sources: Sequence[Given]) -> list[Path]:
    """The shortest ends of the paths that tell them apart, of as many parts each."""
    parts = [Path(os.path.abspath(item.path)).parts for item in sources]
    length, most = 1, len(set(map(_named, parts)))  # an archive and its source in one folder are not told apart
    while len({_named(each[-length:]) for each in parts}) < most:
        length += 1
    return [Path(*each[1:][-length:]) for each in parts]  # the first part is the root


def _named(parts: Sequence[str]) -> tuple[str, ...]:
    """Parts of a path as results have them: of an archive without its suffix."""
    return (*parts[:-1], parts[-1].removesuffix(".bale"))
