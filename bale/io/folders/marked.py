"""The config of a model, marked so that transformers asks bale for the weights beside it."""

from __future__ import annotations

import json

from bale.errors import ArchiveError, UsageError

CONFIG = "config.json"
MARK = b'\n  "quantization_config": {\n    "quant_method": "bale"\n  },'
"""Stands behind the first bracket of a marked config, which is otherwise as it was."""

CONFIG_LIMIT = 1 << 24
_KEY = "quantization_config"


def marked(text: bytes) -> bytes:
    """A config with the mark; `UsageError` for one that is no JSON object, or says how weights are quantized."""
    if json.detect_encoding(text) != "utf-8":
        raise UsageError(f"{CONFIG} is not in UTF-8 without a byte order mark", "save it as such")
    try:
        found = json.loads(text.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found:
        raise UsageError(f"{CONFIG} is no config of a model", "leave out --for transformers")
    if found.get(_KEY, "") is None:  # of two the last counts, which the mark is not
        raise UsageError(f'{CONFIG} has "{_KEY}": null, where bale is to be named', "remove it: it says nothing")
    if _KEY in found:
        raise UsageError(
            f"{CONFIG} says that the weights are quantized, which is what transformers loads them by",
            "leave out --for transformers: the folder loads once it is decompressed",
        )
    at = text.index(b"{") + 1
    return text[:at] + MARK + text[at:]


def unmarked(text: bytes) -> bytes:
    """The mirror image of `marked`."""
    before, mark, behind = text.partition(MARK)
    if not mark or before.strip() != b"{":
        raise ArchiveError(f"{CONFIG} is not the file that was stored", "fetch it again")
    return before + behind
