"""Options that several verbs have, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bale.cli.given import Given, given, to_path

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
    typer.Argument(parser=given, metavar="SOURCE", help="A checkpoint (safetensors, PyTorch), or a folder of weights."),
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
    Path | None,
    typer.Option(
        "--recipe", "-r", parser=to_path, metavar="FILE", help="Rules in a TOML file, or a plan that bale plan saved."
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
KnownBase = Annotated[
    Path | None,
    typer.Option(
        "--base",
        parser=to_path,
        metavar="BASE",
        help="What ARCHIVE holds differences to. [default: the file of its name beside ARCHIVE]",
    ),
]
