"""Stand-ins for a file that was not fetched, by their first bytes: nothing, a Git LFS pointer, a web page."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)


@dataclass(frozen=True)
class StandIn:
    """A kind of file that stands for another: a predicate that is true of it, and what to do about it."""

    what: str
    hint: str

    @property
    def words(self) -> str:
        """The predicate in place of a checkpoint."""
        return f"{self.what}, not a checkpoint"


EMPTY = StandIn("is empty", "fetch or save it again")
LFS = StandIn("is a Git LFS pointer", "fetch it with `git lfs pull`")
WEB = StandIn("looks like a web page", "download it again")


def stand_in(head: bytes) -> StandIn | None:
    """The kind of stand-in that begins with these bytes, or is empty; None for any other file."""
    if not head:
        return EMPTY
    if head.startswith(b"version https://git-lfs"):
        return LFS
    return WEB if _WEB_PAGE.match(head) else None
