"""Names that a record or an index may have, and those that would lead out of their folder."""

from __future__ import annotations

import pytest

from bale.errors import SourceError
from bale.io.folders.plain_names import safe_name
from tests.io.folders.examining import UNSAFE


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(SourceError, match="no plain path"):
        safe_name(name, SourceError, "here")


def test_a_drive_is_refused_with_the_reason() -> None:
    with pytest.raises(SourceError, match="Windows would take c: for a drive; rename it"):
        safe_name("c:model", SourceError, "here")


@pytest.mark.parametrize("name", ["a", "a/b", "...", ".hidden", "a b", "ü\n", "~", "-o", "ab:c"])
def test_safe_names(name: str) -> None:
    assert safe_name(name, SourceError, "here") == name
