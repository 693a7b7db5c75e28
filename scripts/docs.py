"""Write the reference pages, or check that they are up to date: `python scripts/docs.py [--check]`.

docs/cli.md comes from the verbs' own help and options, docs/codecs.md from the codecs' docstrings and settings. Nothing
in them depends on the terminal or on the version of a library, so that a page is stale only when bale has changed.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from bale.cli import (
    advise,
    app,
    codecs,
    compare,
    completion,
    compress,
    decompress,
    evaluate,
    export,
    plan,
    recipes,
    stats,
    verify,
)
from bale.cli import inspect as inspect_verb
from bale.compressors import registry

DOCS = Path(__file__).resolve().parents[1] / "docs"
VERBS = (
    compress,
    decompress,
    export,
    plan,
    advise,
    inspect_verb,
    verify,
    compare,
    codecs,
    recipes,
    stats,
    evaluate,
    completion,
)
GENERATED = "<!-- Written by scripts/docs.py (`make docs`). Do not edit. -->"
KINDS = {
    "quantizer": "An array becomes integer codes and what is needed to turn them back. It is the last transform.",
    "transform": "An array becomes other arrays; the next stage goes on with each of the primary ones.",
    "serializer": "An array becomes bytes.",
    "conditional": "An array becomes bytes, given a reference: values near its own that the decoder has too.",
    "compressor": "Bytes become fewer bytes.",
}
EXIT_CODES = (
    ("0", "done"),
    ("1", "internal error, with a traceback: please report it"),
    ("2", "usage, recipe or plan refused"),
    ("3", "an input is missing, not permitted, broken or with unsafe paths; the base is wrong"),
    ("4", "not a bale, damaged, truncated, of a newer version, or of a codec that is not installed"),
    ("5", "a check failed: `verify --against`, `compare --max-error`, `--fail-if`"),
    ("6", "output could not be written, exists already, is the input, or is a folder"),
    ("130, 143, 129", "ended by SIGINT (Ctrl-C), SIGTERM, SIGHUP; cleaned up"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, lines in (("cli.md", cli_page()), ("codecs.md", codecs_page())):
        text = "\n".join(lines).rstrip() + "\n"
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(DOCS.parent))
        if not check:
            path.write_text(text, encoding="utf-8")
    for page in stale:
        print(f"{page} is stale; run `make docs`" if check else f"{page} written", file=sys.stderr)
    return 1 if check and stale else 0


def cli_page() -> Iterator[str]:
    yield from ("# The command line", "", GENERATED, "")
    yield from _paragraphs(inspect.getdoc(app._top) or "", skip="Exit codes")
    yield from ("Exit codes:", "", "| code | meaning |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES)
    yield ""
    yield from _fill(
        "`compress`, `decompress`, `inspect` and `verify` try every path, and the exit code is that of the first "
        'failure. With `--json` they print `{"results": [...], "summary": {...}}`, for one path as for many; a result '
        "has `name` (as it was given), `code`, and what the verb says of it, or `error`. Other verbs, and what is "
        "wrong with the command line as a whole, print one document alone; a failure is "
        '`{"error": {"code", "kind", "message", "hint"}}`.'
    )
    for verb in VERBS:
        yield from _verb(verb)


def _verb(verb: ModuleType) -> Iterator[str]:
    hints = get_type_hints(verb.command, include_extras=True)
    defaults = {name: each.default for name, each in inspect.signature(verb.command).parameters.items()}
    infos = {name: get_args(hint)[1] for name, hint in hints.items() if len(get_args(hint)) == 2}
    infos = {name: info for name, info in infos.items() if isinstance(info, ArgumentInfo | OptionInfo)}
    arguments = {name: info for name, info in infos.items() if isinstance(info, ArgumentInfo)}
    places = [
        info.metavar if defaults[name] is inspect.Parameter.empty else f"[{info.metavar}]"
        for name, info in arguments.items()
    ]
    yield from (f"## bale {verb.NAME}", "", "```", " ".join(["bale", verb.NAME, *places, "[OPTIONS]"]), "```", "")
    yield from _paragraphs(inspect.getdoc(verb) or "")
    yield from ("| argument or option | meaning |", "|---|---|")
    for info in arguments.values():
        yield f"| `{info.metavar}` | {_cell(info.help)} |"
    for name, info in infos.items():
        if isinstance(info, OptionInfo):
            yield f"| `{_cell(_spelling(info))}` | {_cell(info.help)}{_repeated(hints[name])} |"
    yield "| `-h, --help` | Show help and stop. |"
    yield ""


def _spelling(option: OptionInfo) -> str:
    """All names of an option, short ones first, and what it takes. An annotated option keeps its first as default."""
    names = [name for name in (option.default, *(option.param_decls or ())) if isinstance(name, str)]
    return ", ".join(sorted(names, key=len)) + (f" {option.metavar}" if option.metavar else "")


def _repeated(hint: Any) -> str:
    return " Can be given several times." if "list[" in str(hint) else ""


def codecs_page() -> Iterator[str]:
    yield from ("# The codecs", "", GENERATED, "")
    yield from _fill(
        "A pipeline is an ordered chain of codecs, written `codec[:key=value,...]` and joined by `+`, for example "
        "`int:bits=6,group=64` or `positive+int8`. Transforms come first, then at most one serializer, then at most "
        "one compressor. Without a serializer or a compressor the smallest way to store each part is found and "
        "recorded. `bale codecs` begins with what to choose."
    )
    yield from _fill("The examples below need these names, and the codec's class (`bale.compressors.registry.get`):")
    yield from (
        "```python",
        "import numpy as np",
        "from bale.compressors.base import Values",
        "from bale.compressors.pipeline import Pipeline",
        "from bale.spec import TensorSpec",
        "```",
        "",
    )
    yield from ("| codec | kind | lossless | what it does |", "|---|---|---|---|")
    found = [registry.describe(name) for name in registry.names()]
    for each in found:
        lossless = "yes" if each.lossless else "no"
        yield f"| [{each.name}](#{each.name}) | {each.kind} | {lossless} | {_cell(each.summary)} |"
    yield from ("", "| short name | stands for |", "|---|---|")
    for each in found:
        yield from (f"| `{alias}` | `{text}` |" for alias, text in each.aliases.items())
    yield ""
    for each in found:
        yield from (f"## {each.name}", "", _markup(each.summary), "")
        loss = "lossless" if each.lossless else "lossy"
        noun = "conditional codec" if each.kind == "conditional" else each.kind
        yield from (f"A {noun}, {loss}, version {each.version}. {KINDS[each.kind]}", "")
        if each.parameters:
            yield from ("| key | values | default | meaning |", "|---|---|---|---|")
            for key in each.parameters:
                default = "not set" if key.written is None else f"`{key.written}`"
                yield f"| `{key.name}` | {_cell(key.allowed)} | {default} | {_cell(key.help)} |"
        else:
            yield "It has no parameters."
        yield from ("", *_details(each.details), "")


def _paragraphs(text: str, skip: str | None = None) -> Iterator[str]:
    """The paragraphs of a docstring; an example becomes a block of code."""
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith("Example: "):
            yield from ("```", line.removeprefix("Example: "), "```", "")
        elif not skip or not line.startswith(skip):
            yield from _fill(_markup(line))


def _fill(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
    yield ""


def _details(text: str) -> Iterator[str]:
    """The rest of a docstring; its example becomes a block of code."""
    paragraphs = [
        f"```python\n{paragraph}\n```" if paragraph.startswith(">>>") else _markup(paragraph)
        for paragraph in text.split("\n\n")
    ]
    yield from "\n\n".join(paragraphs).splitlines()


def _markup(text: str) -> str:
    """Docstrings mark code with two backticks, Markdown with one."""
    return text.replace("``", "`")


def _cell(text: str | None) -> str:
    return _markup(" ".join((text or "").split())).replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main())
