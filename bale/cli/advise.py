"""Say what is in a checkpoint, what compressing would make of it, and which command to use; writes nothing.

All figures come from one look at a sample of each tensor, and are about right: bale plan says more of one choice.

Example: bale advise model.safetensors --for transfer --bandwidth 100Mbit
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from bale.cli import options
from bale.cli.given import shown, to_path
from bale.cli.render import (
    Printer,
    figure,
    file_bytes,
    many,
    percent,
    plain,
    prose,
    size,
    table,
    terminal_width,
)
from bale.io.names import own_name

NAME = "advise"


def command(
    source: Annotated[
        Path, typer.Argument(parser=to_path, metavar="SOURCE", help="A checkpoint, or a folder of weights.")
    ],
    purpose: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="storage|transfer|inference",
            help="What the smaller file is for: to be kept, to be sent, or to be run with less precision.",
        ),
    ] = "storage",
    bandwidth: Annotated[
        str | None,
        typer.Option(
            "--bandwidth",
            metavar="RATE",
            help="Of a transfer, like 100Mbit, 1Gbit or 12MB (bytes a second). [default: 100Mbit]",
        ),
    ] = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Advise on one source."""
    from bale import api

    printer = Printer(json, quiet)
    with printer.progress(own_name(source), file_bytes(source)) as progress:
        advice = api.advise(
            source,
            purpose=purpose,  # type: ignore[arg-type]
            bandwidth=bandwidth,
            include=include or (),
            exclude=exclude or (),
            threads=threads,
            progress=progress,
        )
    document = advice.to_json()
    printer.result(document, list(lines(document, shown(source), terminal_width())))
    for note in document["notes"]:
        printer.note(note)
    return 0


def lines(document: dict[str, Any], source: str, width: int | None) -> Iterator[str]:
    """The document for people, in a terminal of this width."""
    yield from prose(plain(f"{source}: {size(document['source']['bytes'])}, {document['source']['kind']}"), width)
    yield ""
    yield from _contents(document, width)
    yield ""
    yield from _choices(document, width)
    if document["transfer"]:
        yield ""
        yield from _transfer(document, width)
    yield ""
    yield f"for {document['for']}:"
    told = None
    for step in document["advice"]:
        yield from _command(source, step["options"])
        yield from _indented(f"{step['why']}.", width)
        if step["risk"] != told:
            yield from _indented(f"Risk: {step['risk']}.", width)
        told = step["risk"]


def _contents(document: dict[str, Any], width: int | None) -> Iterator[str]:
    whole = document["source"]["bytes"]
    rows = [
        (row["name"], str(row["tensors"]), size(row["bytes"]), percent(row["bytes"], whole))
        for row in document["kinds"]
    ]
    yield from table(("holds", "tensors", "bytes", "share"), rows, width=width)
    dtypes = ", ".join(f"{row['name']} {size(row['bytes'])}" for row in document["dtypes"])
    yield from prose(f"dtypes: {dtypes or 'no tensors'}", width)
    for row in document["findings"]:
        such = f"such as {row['example']}" if row["tensors"] > 1 else row["example"]
        number = f"{many(row['tensors'], 'tensor')} ({size(row['bytes'])})"
        yield from prose(plain(f"{_FOUND[row['kind']].format(row['value'])}: {number}, {such}"), width)
    found = document["low_rank"]
    if not found and not any(row["name"] in _WEIGHTS for row in document["kinds"]):
        return
    if not found:
        yield from prose("low rank: pays on no tensor, by their spectra", width)
        return
    named = ", ".join(f"{row['name']} (about {row['bits']:.1f} b a value)" for row in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    yield from prose(plain(f"low rank: may pay, by the spectrum, on {named}{more}"), width)


def _choices(document: dict[str, Any], width: int | None) -> Iterator[str]:
    whole = document["source"]["bytes"]
    rows = [
        (
            row["options"] or "(none: lossless)",
            size(row["predicted_bytes"]),
            percent(row["predicted_bytes"], whole),
            figure(row["relative_error"], ".2g") if row["relative_error"] else "",
            _speed(whole, row["compress_seconds"]),
            _speed(whole, row["decompress_seconds"]),
        )
        for row in document["choices"]
    ]
    head = ("bale compress with", "about", "share", "error", "compress", "decompress")
    yield from table(head, rows, width=width, spare=("decompress", "compress", "share"))
    threads = many(document["threads"], "thread")
    yield from prose(f"speeds: about, as measured on the samples, for {threads} and all the checks of bale", width)


def _transfer(document: dict[str, Any], width: int | None) -> Iterator[str]:
    rows = [
        (
            "as it is" if row["options"] is None else row["options"] or "(none: lossless)",
            size(row["bytes"]),
            *(_seconds(row[f"{key}_seconds"]) for key in ("compress", "send", "decompress", "total")),
        )
        for row in document["transfer"]
    ]
    head = ("sent", "bytes", "compress", "send", "decompress", "in all")
    yield from prose(f"end to end at {size(document['bandwidth'])}/s, about:", width)
    yield from table(head, rows, width=width, spare=("bytes", "decompress", "compress"))
    first, both = (document["layers"][key] for key in ("first", "both"))
    early, late = (_seconds(count / document["bandwidth"]) for count in (first, both))
    text = (
        f"in two steps, -p int4/exact: {size(first)} after {early} of sending are the first layer "
        f"(decompress --layers 1), {size(both)} after {late} are every bit"
    )
    yield from prose(text, width)


def _command(source: str, given: str | None) -> Iterator[str]:
    """A command to be copied: never cut, and in several lines where it has rules."""
    if given is None:
        return
    first, *rules = given.split(" --rule ")
    words = [f"bale compress {quote(source)} {first}".rstrip(), *(f"    --rule {rule}" for rule in rules)]
    yield from (f"  {line} \\" for line in words[:-1])
    yield f"  {words[-1]}"


def _indented(text: str, width: int | None) -> Iterator[str]:
    for line in prose(plain(text), None if width is None else width - 4):
        yield f"    {line}"


def _speed(whole: int, seconds: float | None) -> str:
    """Source bytes a second, in as few digits as are sure."""
    if not seconds:
        return ""
    rate = whole / seconds / 1e6
    return f"{rate:.1f} MB/s" if rate < 10 else f"{float(f'{rate:.2g}'):.0f} MB/s"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


_WEIGHTS = ("weights", "embeddings", "first moments", "second moments")  # kinds that low rank is looked for in
_NAMED = 3
_FOUND = {
    "duplicates": "stored once, as the same bytes as {}",
    "exact-cast": "held exactly by {}",
    "free-low-bits": "free low bits, {} in each value",
    "quantized": "quantized already, {}",
}
