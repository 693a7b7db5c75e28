"""Run the benches and write docs/benchmarks.md: `python -m bench [--only NAME]`.

Needs the checkpoints of scripts/fetch_models.py. The peers that bale is measured against live in a venv of their own,
which is made when it is missing or lacks one. With --only the other sections of the page stay as they are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import page
from bench.common import ROOT, parser
from bench.section import NEEDS, Run
from bench.sections import SECTIONS


def main(words: Sequence[str] | None = None) -> None:
    usual = Run()
    made = parser(f"{__doc__}\nSections, and what they need:\n{listed()}", models=True)
    made.add_argument("--peers", type=Path, default=usual.peers, help="venv of the peers (%(default)s)")
    made.add_argument("--quantizers", type=Path, default=usual.others, help="venv of the quantizers (%(default)s)")
    made.add_argument("--finetuned", type=Path, default=usual.finetuned, help="fine-tunes (%(default)s)")
    made.add_argument(
        "--only", action="append", choices=[each.name for each in SECTIONS], help="this section; can be repeated"
    )
    made.add_argument("--large", action="store_true", help="files of several GB too, in scale and programs")
    made.add_argument("--quick", action="store_true", help="small files and one round where speed is measured")
    made.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help="file that is written (%(default)s)"
    )
    options = made.parse_args(words)
    if options.quick and options.page == made.get_default("page"):
        made.error("figures of --quick are for a page of their own: give --page too")
    run = Run(
        options.models,
        options.finetuned,
        options.peers,
        options.quantizers,
        options.large,
        options.quick,
        options.page.parent,
    )
    written = page.stored(options.page)
    for section in SECTIONS:
        if not options.only or section.name in options.only:
            start = time.monotonic()
            written[section.name] = page.signed(section, section.measure(run), run.large)
            print(f"{section.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    options.page.write_text(page.document(SECTIONS, written), encoding="utf-8")
    print(options.page, "written", file=sys.stderr)


def listed() -> str:
    """Names of sections and of what they need, a line for each."""
    lines = [f"  {each.name:14}{', '.join(each.needs) or '-'}" for each in SECTIONS]
    return "\n".join([*lines, "", *(f"  {need}: {text}" for need, text in NEEDS.items())])


if __name__ == "__main__":
    main()
