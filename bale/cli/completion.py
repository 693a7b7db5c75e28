"""Print a script that makes a shell complete verbs and options; nothing is installed.

For bash, put `source <(bale completion bash)` into ~/.bashrc; for zsh, `source <(bale completion zsh)` into ~/.zshrc,
behind compinit; for fish, write it to ~/.config/fish/completions/bale.fish, as below.

Example: bale completion fish > ~/.config/fish/completions/bale.fish
"""

from __future__ import annotations

from typing import Annotated

import typer

from bale.cli import options
from bale.cli.render import Printer
from bale.errors import UsageError

NAME = "completion"
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BALE_COMPLETE"
"""By this the script asks the program for words, which typer answers."""


def command(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Print the script of one shell."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", f"it is one of {', '.join(SHELLS)}")
    script = get_completion_script(prog_name="bale", complete_var=VARIABLE, shell=shell)
    Printer(json, False).result({"shell": shell, "script": script}, script.splitlines())
    return 0


def prepare() -> None:
    """Let typer answer a shell that asks for words."""
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()  # which registers the shells that typer knows
