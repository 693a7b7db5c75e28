"""Words that are no verbs of bale, answered with the verb that is meant; and where else to look for help."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup
from typer.exceptions import TyperException

from bale.errors import UsageError

if TYPE_CHECKING:
    from typer import Context

SYNONYMS = {
    "inspect": ("list", "ls", "show", "info", "view", "tensors", "header"),
    "compare": ("diff", "cmp", "comp", "delta"),
    "verify": ("test", "check", "validate", "fsck"),
    "decompress": ("restore", "extract", "unpack", "decode", "uncompress", "expand", "unzip", "d", "x"),
    "compress": ("pack", "encode", "archive", "quantize", "convert", "zip", "create", "c", "a"),
    "plan": ("dry-run", "dryrun", "estimate", "predict", "preview"),
    "advise": ("advice", "recommend", "suggest", "analyze", "analyse"),
    "codecs": ("formats", "methods", "codec", "pipelines", "algorithms"),
    "recipes": ("presets", "recipe", "preset", "profiles"),
    "eval": ("evaluate", "perplexity", "quality", "measure", "kl"),
    "stats": ("calibrate", "statistics", "imatrix"),
}
_MEANT = {word: verb for verb, words in SYNONYMS.items() for word in words}


class Verbs(TyperGroup):
    """The verbs; a word that is none of them is answered with the one that is likely meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb that the first word names."""
        try:
            return super().resolve_command(ctx, args)
        except TyperException:
            raise UsageError(f"there is no verb {args[0]!r}", self._meant(args)) from None

    def _meant(self, args: list[str]) -> str:
        word, rest = args[0], args[1:]
        if word.lower() in _MEANT or word.lower() in self.commands:
            return f"did you mean `{_shell('bale', _MEANT.get(word.lower(), word.lower()), *rest)}`?"
        if word.endswith(".bale"):
            return f"did you mean `{_shell('bale decompress', *args)}`?"
        if os.sep in word or word.lower().endswith(_SUFFIXES) or os.path.exists(word):
            return f"did you mean `{_shell('bale compress', *args)}`?"
        near = [_MEANT.get(each, each) for each in get_close_matches(word.lower(), [*self.commands, *_MEANT])]
        meant = f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        return f"{meant}see bale --help"


_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def _shell(command: str, *words: str) -> str:
    return " ".join([command, *map(shlex.quote, words)])


def usage_error(problem: TyperException, arguments: Sequence[str]) -> UsageError:
    """Typer's complaint about the arguments, in one line that names the help of the verb."""
    format_message = getattr(problem, "format_message", None)
    text = " ".join((format_message() if callable(format_message) else str(problem)).split()).rstrip(".")
    context: Context | None = getattr(problem, "ctx", None)
    before_verbs = context is not None and context.parent is None
    command = "bale" if before_verbs or not arguments else f"bale {arguments[0]}"
    hint = f"see {command} --help"
    near = getattr(problem, "possibilities", None)
    option = getattr(problem, "option_name", None)
    text = text.partition(" (Possible options:")[0]
    if context is not None and isinstance(context.command, Verbs) and option in _options(context.command):
        hint = f"it stands behind the verb, as in bale inspect FILE --json; {hint}"
    elif near:
        hint = f"did you mean {' or '.join(near)}? {hint}"
    return UsageError(text, hint)


def _options(verbs: Verbs) -> set[str]:
    """All options that any verb has."""
    return {name for verb in verbs.commands.values() for each in verb.params for name in each.opts}
