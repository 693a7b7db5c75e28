"""Check archives: every stored byte, then every decoded tensor, and the source if it is given.

Example: bale verify model.safetensors.bale --against model.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bale.cli import options
from bale.cli.render import Printer, file_bytes, many, plain, size
from bale.errors import UsageError

NAME = "verify"


def command(
    archive: options.Archives,
    against: Annotated[
        Path | None,
        typer.Option("--against", parser=options.path, metavar="SOURCE", help="Compare with the source as well."),
    ] = None,
    base: options.KnownBase = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Verify each archive."""
    from bale import api

    printer = Printer(json, quiet)
    if against is not None and len(archive) > 1:
        raise UsageError("--against is the source of one archive, and there are several", "verify them one at a time")

    def work(path: Path) -> tuple[dict[str, Any], list[str]]:
        with printer.progress(path.name, 3 * file_bytes(path) // 2) as progress:
            done = api.verify(path, against, base=base, threads=threads, progress=progress)
        document = {
            "path": str(path),
            "ok": True,
            "bytes": done.size,
            "files": done.files,
            "tensors": done.tensors,
            "exact": done.exact,
            "against": None if against is None else str(against),
        }
        kind = "bit for bit" if done.exact else "with recorded losses"
        compared = "" if against is None else f", as {plain(str(against))} has them"
        return document, [
            f"{plain(str(path))}: sound, {many(done.tensors, 'tensor')} {kind}{compared}, {size(done.size)}"
        ]

    return printer.each(archive, work)
