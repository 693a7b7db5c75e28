"""Files that are not what somebody meant to fetch, by their first bytes."""

from __future__ import annotations

import re
from typing import NamedTuple

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)


class Mistaken(NamedTuple):
    """A predicate that is true of such a file, and what to do about it."""

    what: str
    hint: str


EMPTY = Mistaken("is empty", "fetch or save it again")
LFS = Mistaken("is a Git LFS pointer", "fetch it with `git lfs pull`")
WEB = Mistaken("looks like a web page", "download it again")


def mistaken(head: bytes) -> Mistaken | None:
    """The mistake that a file shows which begins with these bytes, or has no others."""
    if not head:
        return EMPTY
    if head.startswith(b"version https://git-lfs"):
        return LFS
    return WEB if _WEB_PAGE.match(head) else None
