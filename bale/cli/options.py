"""Options that several verbs have, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-T", min=1, max=1024, metavar="N", help="Worker threads. [default: all cores]"),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")]
Sources = Annotated[
    list[Path], typer.Argument(metavar="SOURCE", help="A checkpoint (safetensors, PyTorch), or a folder of weights.")
]
Archives = Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="A .bale file, or a folder of them.")]
Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="PIPELINE",
        help="For floating-point tensors with at least 2 dimensions and 4,096 elements, like int4 or svd:rank=64+int8. "
        "[default: lossless]",
    ),
]
Recipe = Annotated[Path | None, typer.Option("--recipe", "-r", metavar="FILE", help="Rules in a TOML file.")]
Rule = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="GLOB=PIPELINE", help="For tensors whose whole name matches; the first match wins."),
]
AllowUnmatched = Annotated[
    bool, typer.Option("--allow-unmatched", help="Let a rule that matches nothing be a note, not an error.")
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base",
        metavar="BASE",
        help="A checkpoint, a bale or a folder that tensors are stored as differences to. It is needed to decompress.",
    ),
]
Stats = Annotated[
    Path | None,
    typer.Option(
        "--stats",
        metavar="FILE",
        help="How the inputs of tensors are distributed (see bale stats): which errors matter. It is not needed to "
        "decompress.",
    ),
]
KnownBase = Annotated[
    Path | None,
    typer.Option(
        "--base",
        metavar="BASE",
        help="What ARCHIVE holds differences to. [default: the file of its name beside ARCHIVE]",
    ),
]
