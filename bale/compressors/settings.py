"""Settings of codecs: dataclass fields, described, read from text and checked in one place.

A codec declares ``bits: int = setting(8, low=2, high=8, help="...")``. The annotation gives the type (int, float, bool,
``Literal`` words and unions of these), so that help, grammar, JSON and constructor agree.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from bale.errors import UsageError

Scalar = bool | int | float | str | None

_WORDS: dict[type, str] = {int: "a whole number", float: "a number"}


def setting(
    default: Scalar,
    *,
    help: str,  # noqa: A002
    low: float | None = None,
    high: float | None = None,
    form: tuple[str, str] | None = None,
) -> Any:
    """Declare a field of a codec, with the range (ends included) of its numbers.

    Text has a `form`: the pattern that all of it matches, and this in words.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "form": form})


@dataclass(frozen=True)
class Setting:
    """One field of a codec: its type, allowed values and meaning.

    Attributes
    ----------
    types : tuple of type
        Those of ``bool``, ``int``, ``float`` and ``str`` that it may be.
    words : tuple of str
        The words that it may be.
    """

    name: str
    types: tuple[builtins.type, ...]
    words: tuple[str, ...]
    default: Scalar
    low: float | None
    high: float | None
    help: str
    form: tuple[str, str] | None = None

    @property
    def type(self) -> str:
        """Names of the types: ``int or word``."""
        return " or ".join([kind.__name__ for kind in self.types] + ["word"] * bool(self.words))

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        choices = [*self.words, *(("true", "false") if bool in self.types else ())]
        numbers = [f"{_WORDS[kind]}{self._range}" for kind in self.types if kind in _WORDS]
        return " or ".join(choices + numbers + ([self.form[1]] if self.form else []))

    @property
    def _range(self) -> str:
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f" from {self.low:g}"
        return f" up to {self.high:g}" if self.low is None else f" from {self.low:g} to {self.high:g}"

    def accept(self, value: object) -> Scalar:
        """Return the value, a whole number as a float where floats are wanted; raise `ValueError` when not allowed."""
        if value is None and self.default is None:
            return None
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, str) and self.form is not None and re.fullmatch(self.form[0], value):
            return value
        if isinstance(value, bool) and bool in self.types:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and self._in_range(value):
            if type(value) in self.types:
                return value
            if float in self.types:
                return float(value)
        raise ValueError(f"{self.name}={value} is not {self.allowed}")

    def _in_range(self, value: float) -> bool:
        low, high = self.low, self.high
        return -(2.0**63) < value < 2.0**63 and (low is None or value >= low) and (high is None or value <= high)

    def parse(self, text: str) -> Scalar:
        """Read a value as it stands in a pipeline; the mirror image is `format_value`."""
        value: object = text
        if text in self.words or self.form is not None:
            pass
        elif bool in self.types and text in ("true", "false"):
            value = text == "true"
        elif re.fullmatch(r"-?[0-9]{1,18}", text):
            value = int(text)
        elif float in self.types and re.fullmatch(r"-?[0-9]*\.?[0-9]+(e-?[0-9]{1,3})?", text):
            value = float(text)
        return self.accept(value)


def format_value(value: Scalar) -> str:
    """Write a value as it stands in a pipeline."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace("e+", "e").removesuffix(".0") if isinstance(value, float) else str(value)


@cache
def settings(codec: type) -> dict[str, Setting]:
    """Settings of a codec class by name, in the order of its fields."""
    hints = get_type_hints(codec)
    found = {}
    for each in fields(codec):
        if each.default is MISSING or "help" not in each.metadata:
            raise TypeError(f"{codec.__name__}.{each.name} is not declared with setting()")
        kinds = _alternatives(hints[each.name])
        found[each.name] = Setting(
            name=each.name,
            types=tuple(kind for kind in kinds if isinstance(kind, type)),
            words=tuple(kind for kind in kinds if isinstance(kind, str)),
            default=each.default,
            low=each.metadata["low"],
            high=each.metadata["high"],
            help=each.metadata["help"],
            form=each.metadata["form"],
        )
    return found


def _alternatives(hint: Any) -> list[type | str]:
    """Types and words of an annotation; None, which only a default can be, is left out."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_args(hint):
        return [kind for each in get_args(hint) for kind in _alternatives(each)]
    return [] if hint is type(None) else [hint]


def check(codec: Any) -> None:
    """Raise `UsageError` when a setting of a codec is not allowed; make whole numbers floats where those are wanted."""
    kind: type = type(codec)
    for each in settings(kind).values():
        try:
            object.__setattr__(codec, each.name, each.accept(getattr(codec, each.name)))
        except ValueError as problem:
            raise UsageError(f"{codec.name}: {problem}") from None


def suggestion(word: str, known: Sequence[str]) -> str:
    """Hint for an unknown word: the nearest known ones, if any are near."""
    found = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(found)}?" if found else ""
