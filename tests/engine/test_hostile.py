"""Archives whose digests are right and whose content is not: decoders see the damage, and only refuse it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
import zstandard

import bale
from bale.engine.coding import task
from bale.errors import ArchiveError
from bale.io.archive.archive import ArchiveWriter, open_archive
from bale.io.archive.manifest import Part
from bale.io.storage.commit import Target
from tests.making import Raw, bf16, random_raw, write

SHAPE = (96, 256)
CHOICES = {
    "lossless": None,
    "lossless:effort=max": None,
    "base/exact": "lossless",
    "base/int4": "int4",
    "base/nf4": "nf4",
    **{f"{first}/exact": None for first in ("int4", "int:bits=3,group=64", "nf4", "mxfp4", "svd:rank=8", "codebook")},
    **dict.fromkeys(("int8", "int4+huffman", "nvfp4", "positive+int8", "fp8", "log:bits=4")),
    **dict.fromkeys(("svd:rank=8+int8", "svd:rank=8/int4", "trellis:bits=3")),
}
CHAINS = ("", "lossless", "lossless:effort=max", "exact", "huffman", "bitpack", "bitpack+zstd", "rans", "records")
FRAME = b"\x28\xb5\x2f\xfd"


def make(folder: Path, choice: str) -> tuple[Path, Path]:
    """An archive and its base: weights with small rows and columns, decay, an adapter, a vector, whole numbers."""
    rng = np.random.default_rng(5)
    plain = rng.standard_normal(SHAPE) * np.exp(rng.standard_normal((SHAPE[0], 1)) + rng.standard_normal(SHAPE[1]))
    tuned = plain * 0.98 * (1 + 0.001 * rng.standard_normal(SHAPE) * (rng.random((SHAPE[0], 1)) < 0.5))
    adapted = plain + 0.1 * rng.standard_normal((SHAPE[0], 2)) @ rng.standard_normal((2, SHAPE[1]))
    files = []
    for name, (first, second) in {"old": (plain, plain), "new": (tuned, adapted)}.items():
        tensors: dict[str, Raw | np.ndarray] = {f"f{8 * n}": first.astype(f"<f{n}") for n in (2, 4, 8)}
        tensors |= {"bf16": bf16(first), "adapted": bf16(second), "adapted32": second.astype("<f4")}
        tensors |= {"vector": bf16(first[0]), "ids": np.arange(5000) + (name == "new"), "bool": first > 0}
        files.append(write(folder / f"{name}.safetensors", tensors | {"f8": random_raw("F8_E4M3", SHAPE)}))
    base, out = (files[0] if choice.startswith("base/") else None), folder / "sound.bale"
    bale.compress(files[1], out, rules=[f"*={CHOICES[choice] or choice}"], base=base, allow_unmatched=True)
    return out, files[0]


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Stored bytes with a few of them changed, or in the wrong place; also within frames."""
    kind, found = rng.integers(6), bytearray(data)
    if not data:
        return rng.bytes(int(rng.integers(9)))
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
    if rng.integers(2):
        at %= 64  # heads
    if kind == 0:
        found[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        found[at : at + length] = rng.choice([b"\0", b"\xff", b"\x01", b"\x7f"]) * length
    elif kind == 2:
        found[at : at + 4] = int(rng.choice([0, 1, len(data), 2**20, 2**31 - 1, 2**32 - 1])).to_bytes(4, "little")
    elif kind == 3:
        del found[at : at + length]
    elif kind == 4:
        found[at:at] = rng.bytes(length)
    elif places := [i for i in range(len(data) - 3) if data[i : i + 4] == FRAME]:
        begin = places[int(rng.integers(len(places)))]
        reader = zstandard.ZstdDecompressor().decompressobj()
        inner = reader.decompress(data[begin:])
        size = len(data) - begin - len(reader.unused_data)
        new = zstandard.ZstdCompressor().compress(damaged(rng, inner)[: len(inner)].ljust(len(inner), b"\1"))
        before, lengths = data[:begin], (each.to_bytes(4, "little") for each in (size, len(new)))
        return before.replace(*lengths) + new + reader.unused_data
    return bytes(found)


def forged(rng: np.random.Generator, part: Part) -> Part:
    """A part that says something else of itself."""
    kind = rng.integers(4)
    if kind == 0:
        return replace(part, storage=tuple(str(rng.choice(CHAINS)) for _ in part.storage))
    if kind == 1:
        return replace(part, bits=int(rng.integers(1, 9)) if part.spec.dtype == "U8" else None)
    if kind == 2:
        return replace(part, spec=replace(part.spec, shape=tuple(rng.permutation(part.spec.shape).tolist())))
    return replace(part, spec=replace(part.spec, shape=(*part.spec.shape[:-1], int(rng.integers(0, 300)))))


def attack(folder: Path, choice: str, rounds: int, seed: int = 0) -> int:
    """Damage one chunk or part at a time; returns how often that was refused."""
    sound, base = make(folder, choice)
    rng, target = np.random.default_rng(seed), folder / "bad.bale"
    with open_archive(sound) as archive:
        manifest, skeleton = archive.manifest, archive.skeleton()
        stored = {
            (index, number, at): archive.read_chunk(index, number, at)
            for index, unit in enumerate(manifest.units)
            for number, part in enumerate(unit.parts)
            for at in range(len(part.chunks))
        }
    refused = 0
    for _ in range(rounds):
        index, number, at = hit = list(stored)[rng.integers(len(stored))]
        changed, part = stored, manifest.units[index].parts[number]
        if rng.integers(4):
            changed = {**stored, hit: damaged(rng, stored[hit])}
        else:
            part = forged(rng, part)
        chunks = list(part.chunks)
        chunks[at] = replace(chunks[at], size=len(changed[hit]), digest=xxhash.xxh3_64_hexdigest(changed[hit]))
        units, parts = list(manifest.units), list(manifest.units[index].parts)
        parts[number] = replace(part, chunks=tuple(chunks))
        units[index] = replace(units[index], parts=tuple(parts))
        with Target(target, None, force=True) as sink:
            writer = ArchiveWriter(sink, 1 << 16)
            for data in changed.values():
                writer.append(data)
            writer.finish(replace(manifest, units=tuple(units)), skeleton)
            sink.commit()
        try:
            with bale.open(target, base=base if choice.startswith("base/") else None) as opened:
                opened.bits(units[index].unit.views[0].name)
        except ArchiveError as error:
            refused += 1
            if "index is out of bounds" in str(error):  # what compiled loops say where they look
                raise
    return refused


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks as short as matrices here can have several of."""
    monkeypatch.setattr(task, "CHUNK_LIMIT", 1 << 13)


@pytest.mark.filterwarnings("ignore:invalid value")  # of a forged product
@pytest.mark.parametrize("choice", CHOICES)
def test_damage_is_refused(tmp_path: Path, choice: str) -> None:
    assert attack(tmp_path, choice, 40) > 20


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("choice", ["base/exact", "base/int4", "int4/exact", "nf4/exact"])
def test_damage_to_long_tensors_is_refused(tmp_path: Path, choice: str) -> None:
    assert attack(tmp_path, choice, 40) > 20


@pytest.mark.soak
@pytest.mark.parametrize("choice", CHOICES)
def test_compiled_loops_stay_within_their_arrays(tmp_path_factory: pytest.TempPathFactory, choice: str) -> None:
    """They look where numba is told to."""
    compiled, made = tmp_path_factory.getbasetemp() / "compiled", tmp_path_factory.mktemp("made")
    code = f"from tests.engine.test_hostile import *\nattack(Path({str(made)!r}), {choice!r}, 1000, 1)"
    checked = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(compiled)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=checked, check=True, timeout=600)
