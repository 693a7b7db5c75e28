"""The page of benchmarks: sections between marks, each of which can be measured again while the others stay."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.common import paragraph
from bench.section import Section

TEXT = (
    "Measured by the package `bench`, which writes this page: `make bench` fetches the checkpoints, makes a venv for "
    "the peers and runs everything. Sizes and errors are the same on every run. Speeds are not: they were taken on a "
    "small shared machine, so read the ratios, which come from runs that took turns, and not the seconds. A limit is a "
    "figure the project has set itself; whether it was reached is said beside it."
)
ONE = (
    "To reproduce a single table, run `make fetch` once, and then the command below it. The benches of processes "
    "want the program `zstd` (`apt-get install zstd`)."
)


def document(sections: Sequence[Section], written: Mapping[str, str]) -> str:
    """The whole page; a section that was never measured is left out."""
    lines = ["# Benchmarks", "", paragraph(TEXT), "", paragraph(ONE), ""]
    for section in sections:
        if section.name in written:
            marks = (f"<!-- begin {section.name} -->", f"<!-- end {section.name} -->")
            lines += [f"## {section.title}", "", marks[0], written[section.name], marks[1], ""]
    return "\n".join(lines)


def stored(page: Path) -> dict[str, str]:
    """The sections that stand in a page now."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return dict(re.findall(r"<!-- begin (\w+) -->\n(.*?)\n<!-- end \1 -->", text, re.DOTALL))


def signed(section: Section, text: str, large: bool) -> str:
    """What was measured, then how it can be measured again and where it was."""
    more = " --large" if large and section.name in ("scale", "programs") else ""
    return f"{text}\n\nReproduce: `.venv/bin/python -m bench --only {section.name}{more}`\\\n{where()}"


def where(*more: str) -> str:
    """The machine and the versions, as a sentence."""
    system = f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')}, {platform.system()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in more or ("numpy", "zstandard"))
    return f"Measured on {system}; bale {version('bale')}, Python {platform.python_version()}, {libraries}."
