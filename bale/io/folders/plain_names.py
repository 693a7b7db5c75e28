"""Names of files that records and indexes may have: plain paths that stay within their folder."""

from __future__ import annotations

import os
import re

from bale.errors import BaleError

NAME_LIMIT, PATH_LIMIT = 255, 1024  # bytes
_DRIVE = re.compile(r"[A-Za-z]:")


def safe_name(name: str, error: type[BaleError], where: str) -> str:
    """The name, if it is a plain relative path that stays where it is put."""
    message = f"{where} names {name!r}, which is no plain path within the folder"
    if _DRIVE.match(name):
        raise error(f"{message}: Windows would take {name[:2]} for a drive", "rename it")
    if "\0" in name or "\\" in name or any(piece in ("", ".", "..") for piece in name.split("/")):
        raise error(message, "fix or remove the name")
    check_length(name, error, where)
    return name


def check_length(name: str, error: type[BaleError], where: str) -> None:
    """Raise `error` for a name that file systems do not have: too long, or with a surrogate that stands for no byte."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        raise error(f"{where} names {name!r}, which no file can be called", "fix or remove the name") from None
    if max(map(len, encoded.split(b"/"))) > NAME_LIMIT or len(encoded) > PATH_LIMIT:
        shown = f"{name[:40]!r}..."
        raise error(f"{where} names {shown} of {len(name)} letters, which is too long", "fix or remove the name")
