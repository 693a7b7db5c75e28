"""List what is inside a checkpoint or an archive, without decoding anything.

Example: bale inspect model.safetensors.bale
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bale.cli import options
from bale.cli.render import Printer, figure, many, percent, plain, remarks, shape_text, size, sized_cells, table

NAME = "inspect"


def command(
    path: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="A checkpoint, an archive, or a folder of either.")
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Inspect each path."""
    from bale import api

    printer = Printer(json, quiet)

    def work(item: Path) -> tuple[dict[str, Any], list[str]]:
        document = api.inspect(item)
        for note in document["notes"]:
            printer.note(note)
        return document, _stored(item, document) if "archive" in document else _plain(item, document)

    return printer.each(path, work)


def _plain(path: Path, document: dict[str, Any]) -> list[str]:
    rows = [
        (
            row["name"],
            row["dtype"],
            shape_text(row["shape"]),
            size(row["original_bytes"]),
            row["same_as"] or "",
        )
        for row in document["tensors"]
    ]
    source = document["source"]
    lines = table(("tensor", "dtype", "shape", "bytes", "same as"), rows, left=2)
    return [*lines, f"{plain(path.name)}: {source['kind']}, {many(len(rows), 'tensor')}, {size(source['bytes'])}"]


def _stored(path: Path, document: dict[str, Any]) -> list[str]:
    rows = [
        [*sized_cells(row, "stored_bytes"), figure(row["snr_db"], ".1f"), remarks(row)] for row in document["tensors"]
    ]
    head = ("tensor", "dtype", "shape", "pipeline", "bytes", "stored", "b/w", "SNR dB", "notes")
    totals = document["totals"]
    before, after = totals["original_bytes"], totals["stored_bytes"]
    lines = table(head, rows, left=4)
    kind = document["source"]["kind"]
    lines.append(
        f"{plain(path.name)}: {kind} of {size(before)} in {size(after)} ({percent(after, before)}), "
        f"{many(len(rows), 'tensor')}, format {document['tool']['format_version']}"
    )
    return lines
