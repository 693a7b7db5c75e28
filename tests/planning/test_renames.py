"""Renames: names of a checkpoint as its base has them."""

from __future__ import annotations

import pytest

from bale.errors import UsageError
from bale.planning.renames import Renames


@pytest.mark.parametrize(
    ("texts", "name", "expected"),
    [
        ((r"re:net[.](.*)=model.\1",), "net.0.weight", "model.0.weight"),
        ((r"re:net[.](.*)=model.\1",), "my.net.0.weight", "my.net.0.weight"),  # the whole name
        ((r"re:(?P<a>\w+)[.](?P<b>\w+)=\g<b>.\g<a>",), "one.two", "two.one"),
        ((r"re:(a)(b)?=\1\2c",), "a", "ac"),  # a group that matched nothing
        (("encoder.*.attn.*=bert.layer.*.attention.*",), "encoder.7.attn.q.weight", "bert.layer.7.attention.q.weight"),
        (("layer*=block*0",), "layer3", "block30"),  # a digit behind a star
        (("a=b",), "a", "b"),
        (("a=b", "a=c"), "a", "b"),  # the first that matches
        (("x=y", "a=c"), "a", "c"),
        (("blocks[0].w=layers.0.w",), "blocks[0].w", "layers.0.w"),  # brackets of names are no classes
        (("a=b=c",), "a", "b=c"),
    ],
)
def test_names(texts: tuple[str, ...], name: str, expected: str) -> None:
    assert Renames.parse(texts).apply(name) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model", "is not PATTERN=NAME"),
        ("re:=x", "is not PATTERN=NAME"),
        ("=x", "is not PATTERN=NAME"),
        ("a=", "is not PATTERN=NAME"),
        (r"re:a(b)=\2", "has no group 2"),
        (r"re:a(b)=\g<c>", "has no group c"),
        ("a*=b*c*", "has no group 2"),
        ("re:(=x", "is not a regular expression"),
        ("re:(a+a+)+b=x", "repeats what can itself match"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="--rename") as found:
        Renames.parse([text])
    assert words in found.value.message


def test_a_rename_that_matches_nothing() -> None:
    renames = Renames.parse(["a=b", "x=y"])
    renames.check(["x", "a"])
    with pytest.raises(UsageError, match="'x=y' matches no tensor"):
        renames.check(["a", "b"])
