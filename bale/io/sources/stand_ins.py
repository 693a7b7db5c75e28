"""What lies in the place of weights where these have not been fetched: nothing, a Git LFS pointer, a web page."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class StandIn:
    """A kind of file that stands for another, the words for one, and what to do about it."""

    kind: str
    words: str
    hint: str


EMPTY = StandIn("empty", "is empty", "fetch or save it again")
LFS = StandIn("lfs", "is a Git LFS pointer, not the checkpoint itself", "fetch it with `git lfs pull`")
WEB = StandIn("web", "looks like a web page, not a checkpoint", "download it again")

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)


def stand_in(head: bytes) -> StandIn | None:
    """What a file that begins so, and has no more bytes if there are none, stands in place of weights as; or None."""
    if not head:
        return EMPTY
    if head.startswith(b"version https://git-lfs"):
        return LFS
    return WEB if _WEB_PAGE.match(head) else None
