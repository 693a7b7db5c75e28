"""Each error has the exit code of the design's table."""

from __future__ import annotations

import pytest

from bale import errors


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (errors.BaleError, 1, "internal"),
        (errors.UsageError, 2, "usage"),
        (errors.Refused, 2, "refused"),
        (errors.SourceError, 3, "source"),
        (errors.ArchiveError, 4, "archive"),
        (errors.CheckFailed, 5, "check"),
        (errors.OutputError, 6, "output"),
    ],
)
def test_codes(kind: type[errors.BaleError], code: int, word: str) -> None:
    assert (kind.code, kind.kind) == (code, word)
    assert issubclass(kind, errors.BaleError)


def test_text() -> None:
    error = errors.SourceError("it is broken", "mend it")
    assert (str(error), error.message, error.hint) == ("it is broken; mend it", "it is broken", "mend it")
    assert str(errors.SourceError("it is broken")) == "it is broken"


def test_every_error_is_in_the_table() -> None:
    found = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert len(found) == 8  # with `Refused` and `OutOfRoom`, which are kinds of others, and the base of all
