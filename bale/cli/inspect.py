"""List what is inside a checkpoint or an archive, without decoding anything.

With ``--floor`` every tensor is read, or decoded, to tell what is possible: the bytes and bits a weight that it takes
when each field of its elements (exponents, mantissa bytes) is coded by itself, at its own order-0 entropy, with no
tables counted. Equal tensors count once. Of a lossy archive it is the floor of what it gives back.

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
        list[Path],
        typer.Argument(parser=options.path, metavar="PATH", help="A checkpoint, an archive, or a folder of either."),
    ],
    floor: Annotated[
        bool, typer.Option("--floor", help="Tell the order-0 floor of every tensor; reads or decodes all of them.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Inspect each path."""
    from bale import api

    printer = Printer(json, quiet)

    def work(item: Path) -> tuple[dict[str, Any], list[str]]:
        document = api.inspect(item)
        if floor:
            with printer.progress(item.name, document["source"]["bytes"]) as progress:
                document = api.inspect(item, floor=True, progress=progress)
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
            *_floor_cells(row),
            row["same_as"] or "",
        )
        for row in document["tensors"]
    ]
    source = document["source"]
    head = ("tensor", "dtype", "shape", "bytes", *_floor_head(document), "same as")
    summary = f"{plain(path.name)}: {source['kind']}, {many(len(rows), 'tensor')}, {size(source['bytes'])}"
    return [*table(head, rows, left=2), summary, *_floor_line(document)]


def _stored(path: Path, document: dict[str, Any]) -> list[str]:
    rows = [
        [*sized_cells(row, "stored_bytes"), *_floor_cells(row), figure(row["snr_db"], ".1f"), remarks(row)]
        for row in document["tensors"]
    ]
    sizes = ("bytes", "stored", "b/w", *_floor_head(document))
    head = ("tensor", "dtype", "shape", "pipeline", *sizes, "SNR dB", "notes")
    totals = document["totals"]
    before, after = totals["original_bytes"], totals["stored_bytes"]
    summary = (
        f"{plain(path.name)}: {document['source']['kind']} of {size(before)} in {size(after)} "
        f"({percent(after, before)}), {many(len(rows), 'tensor')}, format {document['tool']['format_version']}"
    )
    return [*table(head, rows, left=4), summary, *_floor_line(document)]


def _floor_head(document: dict[str, Any]) -> tuple[str, ...]:
    return ("floor", "floor b/w") if "floor_bytes" in document.get("totals", ()) else ()


def _floor_cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "floor_bytes" not in row:
        return ()
    return ("-", "-") if row["same_as"] else (size(row["floor_bytes"]), figure(row["floor_bits_per_weight"], ".2f"))


def _floor_line(document: dict[str, Any]) -> list[str]:
    """The floor of all tensors, against their bytes: a checkpoint is more than its tensors."""
    if not _floor_head(document):
        return []
    floor = document["totals"]["floor_bytes"]
    whole = sum(row["original_bytes"] for row in document["tensors"] if not row["same_as"])
    bits = figure(document["totals"]["floor_bits_per_weight"], ".2f")
    return [f"floor: {size(floor)} of {size(whole)} in tensors ({percent(floor, whole)}), {bits} bits a weight"]
