"""List what is inside a checkpoint or an archive, without decoding anything.

With ``--floor`` every tensor is read, or decoded, to show what is possible: the bytes and bits a weight that it takes
when each field of its elements (exponents, mantissa bytes) is coded by itself, at its own order-0 entropy, with no
tables counted. Equal tensors count once. Of a lossy archive it is the floor of what it gives back.

Of a lossy archive the worst tensors come first, and lossless ones are one line.

Example: bale inspect model.safetensors.bale
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from bale.cli import options, ranking
from bale.cli.each import Done, each
from bale.cli.folders import beside_totals
from bale.cli.given import Given, choose, given, shown
from bale.cli.render import (
    Printer,
    figure,
    many,
    percent,
    plain,
    prose,
    shape_text,
    show_notes,
    size,
    sized_cells,
    sized_table,
    table,
    terminal_width,
    with_files,
)
from bale.io.names import own_name

NAME = "inspect"


def command(
    path: Annotated[
        list[Given],
        typer.Argument(parser=given, metavar="PATH", help="A checkpoint, an archive, or a folder of either."),
    ],
    floor: Annotated[
        bool, typer.Option("--floor", help="Show the order-0 floor of every tensor; reads or decodes all of them.")
    ] = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    sort: ranking.SortOption = None,
    show_all: ranking.AllOption = False,
    top: ranking.TopOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Inspect each path."""
    from bale import api
    from bale.io.folders.by_products import is_no_archive

    printer, width, choice = Printer(json, quiet), terminal_width(), ranking.Choice(sort, show_all, top)

    chosen = choose(printer, path, is_no_archive)

    def work(item: Given) -> Done:
        wanted, unwanted = include or (), exclude or ()
        document = api.inspect(item.path, include=wanted, exclude=unwanted)
        if floor:
            with printer.progress(own_name(item.path), document["source"]["bytes"]) as progress:
                document = api.inspect(item.path, floor=True, include=wanted, exclude=unwanted, progress=progress)
        is_lossy = "archive" in document and document["totals"]["lossy"] is not None
        named = with_files(document)
        rows = [row for row in named["tensors"] if show_all or not is_lossy or _is_lossy(row)]
        default = ranking.Sort.error if is_lossy else ranking.Sort.file
        rows, more = choice.first(rows, _KEYS, width, default, cut=is_lossy)
        notes = show_notes(printer, named, width, shown(item.path) if chosen.several else "")
        if printer.as_json:  # a table of very many tensors takes longer than to read them
            return Done(document, ())
        show = _stored if "archive" in document else _plain
        lines = [*show(rows, document, width), *more, *(_lossless(document) if is_lossy and not show_all else [])]
        below = (_summary(item.path, document), *_beside(document), *_floor_line(document))
        lines += [line for text in below for line in prose(text, width)]
        return Done(document, [*lines, *notes])

    return each(printer, chosen, work)


def _error(row: dict[str, Any]) -> float:
    """Relative error, infinite where it is unknown; none for exact tensors, and for checkpoints."""
    error = row.get("relative_error", 0.0)
    return inf if error is None else float(error)


def _is_lossy(row: dict[str, Any]) -> bool:
    return _error(row) != 0


_KEYS = ranking.Keys[dict[str, Any]](_error, lambda row: str(row["name"]), lambda row: int(row["original_bytes"]))


def _plain(rows: list[dict[str, Any]], document: dict[str, Any], width: int | None) -> list[str]:
    cells = [
        (
            row["name"],
            row["dtype"],
            shape_text(row["shape"]),
            size(row["original_bytes"]),
            *_floor_cells(row),
            row["same_as"] or "",
        )
        for row in rows
    ]
    head = ("tensor", "dtype", "shape", "bytes", *_floor_head(document), "same as")
    if width is None:
        return table(head, cells, left=2)
    return table(head[:-1], [each[:-1] for each in cells], left=2, width=width, spare=("shape", "floor", "dtype"))


def _stored(rows: list[dict[str, Any]], document: dict[str, Any], width: int | None) -> list[str]:
    def cells(row: dict[str, Any]) -> list[str]:
        return [*sized_cells(row, "stored_bytes"), *_floor_cells(row), figure(row["snr_db"], ".1f")]

    head = ("tensor", "dtype", "shape", "pipeline", "bytes", "stored", "b/w", *_floor_head(document), "SNR dB")
    return sized_table(head, rows, cells, width)


def _lossless(document: dict[str, Any]) -> list[str]:
    """One line for all tensors that come back as they were."""
    rows = [row for row in document["tensors"] if not _is_lossy(row)]
    if not rows:
        return []
    before = sum(row["original_bytes"] for row in rows if not row["same_as"])
    return [f"{many(len(rows), 'tensor')} lossless: {size(before)} in {size(sum(row['stored_bytes'] for row in rows))}"]


def _summary(path: Path, document: dict[str, Any]) -> str:
    source, tensors = document["source"], many(len(document["tensors"]), "tensor")
    if "archive" not in document:
        return f"{plain(shown(path))}: {source['kind']}, {tensors}, {size(source['bytes'])}"
    totals = document["totals"]
    before, after = totals["original_bytes"], totals["stored_bytes"]
    based = f", differences to {plain(', '.join(document['bases']))}" if "bases" in document else ""
    return (
        f"{plain(shown(path))}: {source['kind']} of {size(before)} in {size(after)} "
        f"({percent(after, before)}), {tensors}{based}, format {document['tool']['format_version']}"
    )


def _beside(document: dict[str, Any]) -> list[str]:
    return [plain(line) for line in beside_totals(document["totals"], document.get("copied"))]


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
