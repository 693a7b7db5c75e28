"""Codecs of other packages, found by their entry points. Nobody looks for them before one is asked for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bale.compressors.base import Codec, Compressor, Serializer, Transform
from bale.compressors.settings import settings
from bale.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "bale.codecs"
"""The group of entry points: names of codecs, and where their classes stand."""

_KINDS = (Transform, Serializer, Compressor)
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_LONG = 200  # letters of another package's words that go into a message


@dataclass(frozen=True)
class Claim:
    """A name that a package gives to a codec of its own; `package` is the package's name and version."""

    name: str
    package: str
    entry: EntryPoint


@cache
def claims() -> dict[str, tuple[Claim, ...]]:
    """What the installed packages call codecs, by name. Read once: it takes tens of milliseconds."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[Claim, ...]] = {}
    for entry in entry_points(group=GROUP):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package without a name"
        found[entry.name] = (*found.get(entry.name, ()), Claim(entry.name, package, entry))
    return found


def only(name: str, own: Sequence[str]) -> Claim:
    """The one claim to a name.

    Raises
    ------
    UsageError
        When another package, or bale itself, which calls codecs by the names `own`, has it too.
    """
    found = claims()[name]
    owners = ["bale"] * (name in own) + sorted(claim.package for claim in found)
    if len(owners) > 1:
        raise UsageError(f"two codecs are called {name!r}: {owners[0]} has one, and {owners[1]}", "uninstall one")
    return found[0]


def load(claim: Claim) -> type[Codec]:
    """The class behind a claim. Raises `UsageError` when it cannot be imported, or is no codec that bale can use."""
    try:
        found = claim.entry.load()
    except MemoryError:
        raise
    except (Exception, SystemExit) as problem:  # whatever a stranger's module does when it is imported
        raise _unusable(claim, f"{type(problem).__name__}: {problem}") from None
    flaw = _flaw(found, claim.name)
    if flaw is not None:
        raise _unusable(claim, flaw)
    return found  # type: ignore[no-any-return]


def _unusable(claim: Claim, why: str) -> UsageError:
    why = " ".join(why.split())
    why = why if len(why) <= _LONG else f"{why[:_LONG]}..."
    return UsageError(
        f"the codec {claim.name!r} of {claim.package} cannot be used ({why})", "upgrade that package, or uninstall it"
    )


def _flaw(found: object, name: str) -> str | None:
    """Why a class cannot be used as the codec of this name, if it cannot."""
    if not isinstance(found, type) or not issubclass(found, _KINDS):
        return "it is no quantizer, transform, serializer or compressor"
    if getattr(found, "name", None) != name:
        return f"it calls itself {getattr(found, 'name', None)!r}"
    if not _NAME.fullmatch(name):
        return "its name cannot be written in a pipeline"
    if inspect.isabstract(found):
        return f"it lacks {', '.join(sorted(found.__abstractmethods__))}"
    if "__dataclass_params__" not in vars(found):
        return "it is no frozen dataclass"
    if type(found.version) is not int or found.version < 1:
        return f"its version is {found.version!r}"
    try:
        settings(found)
    except Exception as problem:  # annotations are a stranger's code
        return str(problem)
    return None
