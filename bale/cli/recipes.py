"""List the presets: recipes that come with bale, or print the file of one, to be edited.

`-r NAME` of compress and plan takes one by its name. What a recipe can say is in docs/recipes.md.

Example: bale recipes show small > mine.toml
"""

from __future__ import annotations

from typing import Annotated

import typer

from bale.cli import options
from bale.cli.render import Printer, prose, table, terminal_width
from bale.errors import UsageError

NAME = "recipes"
_SHOW = "show"
_BEHIND = (
    "Budgets are bits a weight on average, each tensor as fine as serves the whole. Weight error is not model quality: "
    "test the model. bale recipes show NAME prints one."
)


def command(
    action: Annotated[str | None, typer.Argument(metavar="show", help="Print the file of NAME.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A preset.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List all presets, or print one."""
    from bale.planning.presets import all_presets, find_preset, is_preset

    printer, width = Printer(json, quiet), terminal_width()
    if action is None:
        listed = [(each.name, each.summary) for each in all_presets()]
        rows = table(("-r", "what for"), listed, left=2, width=width, wrap=True)
        documents = [{"name": name, "summary": summary} for name, summary in listed]
        printer.result(documents, [*rows, "", *prose(_BEHIND, width)])
        return 0
    if action != _SHOW:
        meant = f"bale recipes {_SHOW} {action}" if is_preset(action) else f"bale recipes {_SHOW} NAME"
        raise UsageError(f"bale recipes cannot {action!r}", f"did you mean `{meant}`?")
    if name is None:
        raise UsageError("bale recipes show needs the NAME of a preset", "bale recipes lists them")
    preset = find_preset(name)
    document = {"name": preset.name, "summary": preset.summary, "text": preset.text}
    printer.result(document, preset.text.splitlines())
    return 0
