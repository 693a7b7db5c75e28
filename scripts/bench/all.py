"""Run the benches and write docs/benchmarks.md: `python scripts/bench/all.py [--only NAME]`.

Needs the checkpoints of scripts/fetch_models.py. The peers that bale is measured against live in a venv of their own,
which is made when it is missing or lacks one. With --only the other sections of the page stay as they are.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import differences
import lossless_peers
import lowrank
import process
import progressive
import quantization
import quantizers
import scale
import sizes
import startup
import trellis
import venvs
from common import PYTHON, ROOT, Limit, checkpoint, page, parser, table

PAGE = ROOT / "docs" / "benchmarks.md"
TITLES = {
    "sizes": "Lossless sizes",
    "codec": "The lossless codec against ZipNN",
    "peers": "Lossless codecs side by side",
    "differences": "Differences of fine-tunes",
    "progressive": "Two steps",
    "quantization": "Quantization",
    "trellis": "Trellis quantization",
    "lowrank": "Low rank",
    "quantizers": "Quantizers side by side",
    "process": "Whole processes against zstd",
    "scale": "Scale",
    "startup": "Start-up",
}
SPEEDS = {
    "synthetic BF16": (Limit(1.8, False), Limit(1.35, False)),
    "synthetic F32": (Limit(3, False), Limit(1.5, False)),
}
"""Least ratios of speed, compressing and decompressing."""

MORE_THAN_ZIPNN = 0.06  # points


def main() -> None:
    made = parser(__doc__, models=True)
    made.add_argument("--peers", type=Path, default=ROOT / ".venv-peers", help="venv of the peers (%(default)s)")
    made.add_argument(
        "--quantizers", type=Path, default=ROOT / ".venv-peers-quant", help="venv of the quantizers (%(default)s)"
    )
    made.add_argument("--finetuned", type=Path, default=ROOT / ".finetuned", help="fine-tunes (%(default)s)")
    made.add_argument("--only", action="append", choices=TITLES, help="run this bench only; can be repeated")
    made.add_argument("--large", action="store_true", help="files of several GB too, in the section on scale")
    options = made.parse_args()
    peers, others = venvs.lossless(options.peers).python, venvs.quantizers(options.quantizers).python
    benches: dict[str, Callable[[], str]] = {
        "sizes": partial(sizes.section, options.models),
        "codec": lambda: codec(options.models, peers()),
        "peers": lambda: lossless_peers.section(options.models, peers()),
        "differences": lambda: differences.section(options.models, options.finetuned, peers()),
        "progressive": partial(progressive.section, options.models),
        "quantization": partial(quantization.section, options.models),
        "trellis": partial(trellis.section, options.models),
        "lowrank": partial(lowrank.section, options.models, options.finetuned),
        "quantizers": lambda: quantizers.section(options.models, others()),
        "process": process.section,
        "scale": partial(scale.section, options.large),
        "startup": startup.section,
    }
    sections = stored_sections()
    for name, bench in benches.items():
        if not options.only or name in options.only:
            start = time.monotonic()
            sections[name] = f"{bench()}\n\nReproduce: `{how(name, options.large)}`\\\n{where()}"
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    PAGE.write_text("\n".join(document(sections)), encoding="utf-8")
    print(PAGE.relative_to(ROOT), "written", file=sys.stderr)


def document(sections: dict[str, str]) -> list[str]:
    text = (
        "Measured by the scripts in `scripts/bench`, which write this page: `make bench` fetches the checkpoints, "
        "makes a venv for the peers and runs everything. Sizes and errors are the same on every run. Speeds are not: "
        "they were taken on a small shared machine, so read the ratios, which come from runs that took turns, and "
        "not the seconds. A limit is a figure the project has set itself; whether it was reached is said beside it."
    )
    one = (
        "To reproduce a single table, run `make fetch` once, and then the command below it. The process bench wants "
        "the program `zstd` (`apt-get install zstd`)."
    )
    lines = ["# Benchmarks", "", page(text), "", page(one), ""]
    for name, title in TITLES.items():
        if name in sections:
            lines += [f"## {title}", "", f"<!-- begin {name} -->", sections[name], f"<!-- end {name} -->", ""]
    return lines


def stored_sections() -> dict[str, str]:
    """The sections that stand in the page now."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return dict(re.findall(r"<!-- begin (\w+) -->\n(.*?)\n<!-- end \1 -->", text, re.DOTALL))


def how(name: str, large: bool) -> str:
    return f".venv/bin/python scripts/bench/all.py --only {name}" + (" --large" if large and name == "scale" else "")


def where() -> str:
    system = f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')}, {platform.system()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "zstandard"))
    return f"Measured on {system}; bale {version('bale')}, Python {platform.python_version()}, {libraries}."


def codec(models: Path, python: Path) -> str:
    """The section on the codec, by a script that runs in the peers' venv."""
    names = ("minilm/model.safetensors", "whisper/whisper-base-fp16.safetensors", "crepe/full.pth")
    files = [checkpoint(models, name) for name in names]
    rows = [row for arguments in ([], files) for row in _codec_rows(python.parent.parent, arguments)]
    text = (
        f"bale's default codec, without an archive and its digests, against {venvs.versions(python, ['zipnn'])}: one "
        "thread each, in one process, in turns on the same tensors. MB/s are per second of CPU time, medians of the "
        "rounds; ratios are medians of the ratios within a round. No code is compiled at run time. The synthetic sets "
        f"are Gaussian matrices with a log-normal scale for each row. *Size* is held to ZipNN's plus {MORE_THAN_ZIPNN} "
        "points."
    )
    head = ("data", "bale, %", "ZipNN, %", "compress, MB/s", "ZipNN", "ratio", "decompress, MB/s", "ZipNN", "ratio")
    return page(text, table((*head, "limits"), rows))


def _codec_rows(peers: Path, arguments: list[Path]) -> list[list[str]]:
    script = ROOT / "scripts" / "bench" / "lossless_codec.py"
    command = [PYTHON, script, "--markdown", "--peers", peers, *arguments]
    printed = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if printed.returncode:
        sys.exit(f"{script.name} ended with {printed.returncode}")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.stdout.splitlines()[2:]]
    for row in rows:
        allowed = Limit(round(float(row[2]) + MORE_THAN_ZIPNN, 2))
        limits = [f"size {allowed.cell(float(row[1]))}"]
        if row[0] in SPEEDS:
            compress, decompress = SPEEDS[row[0]]
            limits.append(f"compress {compress.cell(float(row[5]))}")
            limits.append(f"decompress {decompress.cell(float(row[8]))}")
        row.append("; ".join(limits))
    return rows


if __name__ == "__main__":
    main()
