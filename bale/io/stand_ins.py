"""Stand-ins for a file that was not fetched: nothing, a Git LFS pointer, a web page, another text."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_SHOWN = 60  # letters of a text


@dataclass(frozen=True)
class StandIn:
    """A kind of file that stands for another: a predicate that is true of it, and what to do about it."""

    what: str
    hint: str

    @property
    def words(self) -> str:
        """The predicate in place of a checkpoint."""
        return f"{self.what}, not a checkpoint"


class Text(StandIn):
    """A text: a message of a server (``Entry not found``), or one that is meant."""


EMPTY = StandIn("is empty", "fetch or save it again")
LFS = StandIn("is a Git LFS pointer", "fetch it with `git lfs pull`")
WEB = StandIn("looks like a web page", "download it again")
UNKNOWN = StandIn("has no content that bale knows", "download it again")


def stand_in(head: bytes) -> StandIn | None:
    """The kind of stand-in that begins with these bytes, or is empty; None for any other file. Not a `Text`."""
    if not head:
        return EMPTY
    if head.startswith(b"version https://git-lfs"):
        return LFS
    return WEB if _WEB_PAGE.match(head) else None


def as_text(head: bytes) -> Text | None:
    """What a file is that begins with these bytes, if they are a text."""
    try:
        text = " ".join(codecs.getincrementaldecoder("utf-8-sig")().decode(head).split())
    except UnicodeDecodeError:
        return None
    if not text.isprintable():
        return None
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return Text(f"is a text ({shown!r})", WEB.hint)
