"""Say what to choose, list the codecs, or explain one and its parameters.

Example: bale codecs trellis
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bale.cli import options
from bale.cli.render import Printer, prose, table, terminal_width

if TYPE_CHECKING:
    from bale.compressors.registry import Description

NAME = "codecs"


def command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A codec.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List all codecs, or describe one."""
    from bale.cli import menu
    from bale.compressors import registry

    printer, width = Printer(json, quiet), terminal_width()
    if name is None:
        found = [registry.describe(each) for each in registry.names()]
        others, unusable = registry.describe_others()
        found += others
        rows = [(each.name, each.kind, "yes" if each.lossless else "no", _summary(each)) for each in found]
        head = ("codec", "kind", "lossless", "what it does")
        listed = table(head, rows, left=4, width=width, wrap=True)
        for problem in unusable:
            printer.note(problem)
        printer.result([asdict(each) for each in found], [*menu.lines(width), "", *listed])
        return 0
    codec = registry.describe(name)
    rows = [(each.name, each.allowed, each.written or "-", each.help) for each in codec.parameters]
    kind = f"{codec.kind}, {'lossless' if codec.lossless else 'lossy'}, version {codec.version}"
    lines = [
        f"{codec.name}: {_summary(codec)}",
        kind,
        *(f"{alias} stands for {text}" for alias, text in codec.aliases.items()),
    ]
    lines = [line for text in lines for line in prose(text, width)]
    if rows:
        lines += table(("key", "values", "default", "meaning"), rows, left=4, width=width, wrap=True)
    printer.result(asdict(codec), lines)
    return 0


def _summary(codec: Description) -> str:
    """What a codec does, and the package that it comes from if that is not bale."""
    return codec.summary if codec.package is None else f"{codec.summary} (from {codec.package})"
