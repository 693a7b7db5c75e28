"""Options that several verbs have, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bale.cli.given import Given, given, preset_or_path, to_path

Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="GLOB", help="Of a folder, take only files whose path in it matches GLOB (* crosses /)."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="GLOB", help="Of a folder, leave out files whose path in it matches GLOB."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-T", min=1, max=1024, metavar="N", help="Worker threads. [default: all cores]"),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")]
Sources = Annotated[
    list[Given],
    typer.Argument(parser=given, metavar="SOURCE", help="A checkpoint of any format, or a folder of weights."),
]
Archives = Annotated[
    list[Given], typer.Argument(parser=given, metavar="ARCHIVE", help="A .bale file, or a folder of them.")
]
Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="PIPELINE",
        help="For floating-point tensors with at least 2 dimensions and 4,096 elements, like trellis:bits=4; "
        "bale codecs says what to choose. [default: lossless]",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        parser=preset_or_path,
        metavar="RECIPE",
        help="Rules or a budget in a TOML file, a plan that bale plan saved, or a preset (see bale recipes); a file "
        "with the name of a preset is written ./NAME.",
    ),
]
Rule = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="GLOB=PIPELINE",
        help="For tensors whose whole name matches GLOB, or re: and a regular expression; the first match wins.",
    ),
]
AllowUnmatched = Annotated[
    bool, typer.Option("--allow-unmatched", help="Let a rule or GLOB that matches nothing be a note, not an error.")
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base",
        parser=to_path,
        metavar="BASE",
        help="A checkpoint, a bale or a folder that tensors are stored as differences to. It is needed to decompress.",
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="re:PATTERN=NAME",
        help=r"The name in the base of tensors whose whole name matches, like 're:net[.](.*)=model.\1', or OLD*=NEW*; "
        "the first match counts. Wrappers (module, _orig_mod) and prefixes need none.",
    ),
]
Stats = Annotated[
    Path | None,
    typer.Option(
        "--stats",
        parser=to_path,
        metavar="FILE",
        help="How the inputs of tensors are distributed (see bale stats): which errors matter. It is not needed to "
        "decompress.",
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        help="Budget: all that is stored takes this at most, like 500MB, 1.5GiB or 62% of the source.",
    ),
]
Bits = Annotated[
    str | None,
    typer.Option("--bits", metavar="N", help="Budget: bits a weight at most, on average of all that is lossy."),
]
MaxError = Annotated[
    str | None, typer.Option("--max-error", metavar="E", help="Budget: relative error of each tensor at most.")
]
MinSnr = Annotated[
    str | None,
    typer.Option("--min-snr", metavar="DB", help="Budget: signal-to-noise ratio of each tensor in dB at least."),
]
MeanError = Annotated[
    str | None,
    typer.Option("--mean-error", metavar="E", help="Budget: relative error of all lossy tensors together at most."),
]
Weight = Annotated[
    str | None,
    typer.Option(
        "--weight",
        metavar="quality|relative|absolute",
        help="What errors mean across tensors: small tensors and kinds of them apart, relative errors, or their sum. "
        "[default: quality]",
    ),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="CONDITION",
        help="Fail (exit 5) when this is true, like 'ratio < 1.4', 'max(relative_error) > 2%', "
        "'worst_row_error > 0.5 or bytes > 500MB'; docs/gates.md has the names.",
    ),
]
KnownBase = Annotated[
    Path | None,
    typer.Option(
        "--base",
        parser=to_path,
        metavar="BASE",
        help="What ARCHIVE holds differences to. [default: the file of its name beside ARCHIVE]",
    ),
]
