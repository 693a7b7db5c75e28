"""Say what to choose, list the codecs, or explain one and its parameters.

Example: bale codecs trellis
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bale.cli import options
from bale.cli.render import Printer, table

NAME = "codecs"


def command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A codec.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List all codecs, or describe one."""
    from bale.cli import menu
    from bale.compressors import registry

    printer = Printer(json, quiet)
    if name is None:
        found = [registry.describe(each) for each in registry.names()]
        rows = [(each.name, each.kind, "yes" if each.lossless else "no", each.summary) for each in found]
        listed = table(("codec", "kind", "lossless", "what it does"), rows, left=4)
        printer.result([asdict(each) for each in found], [*menu.lines(), "", *listed])
        return 0
    codec = registry.describe(name)
    rows = [(each.name, each.allowed, _written(each.default), each.help) for each in codec.parameters]
    kind = f"{codec.kind}, {'lossless' if codec.lossless else 'lossy'}, version {codec.version}"
    lines = [
        f"{codec.name}: {codec.summary}",
        kind,
        *(f"{alias} stands for {text}" for alias, text in codec.aliases.items()),
        *(table(("key", "values", "default", "meaning"), rows, left=4) if rows else []),
    ]
    printer.result(asdict(codec), lines)
    return 0


def _written(default: object) -> str:
    """A default as it is written in a pipeline."""
    return "-" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
