"""Reports of bale as files."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from bale.io.names import REPORT

_LIMIT = 1 << 28  # bytes of a report that is read


def read_report(path: Path) -> dict[str, Any] | None:
    """A report of bale's; None for anything else."""
    with suppress(OSError, ValueError, RecursionError):
        if os.path.isfile(path) and os.path.getsize(path) <= _LIMIT:
            data = json.loads(path.read_bytes())
            if isinstance(data, dict) and isinstance(data.get("archive"), dict) and _tool(data) == "bale":
                return data
    return None


def is_report(path: Path) -> bool:
    """Whether a file is a report of bale's, by its name and its content."""
    return path.name.endswith(REPORT) and read_report(path) is not None


def _tool(report: dict[str, Any]) -> Any:
    tool = report.get("tool")
    return tool.get("name") if isinstance(tool, dict) else None
