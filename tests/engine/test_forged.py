"""Manifests that make no sense though every digest is right: refused in a sentence, by whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.errors import BaleError
from tests.forging import JSON, Apart
from tests.making import bf16, random_raw, weights, write

CHOICES = [
    *("lossless", "lossless:effort=max", "int8", "int:bits=4,group=16,rows=8", "nf4", "codebook:bits=3", "log:bits=4"),
    *("fp8", "mxfp4", "nvfp4", "positive+int8", "int4/exact", "nf4/exact", "trellis:bits=3", "trellis:step=0.01/exact"),
    *("svd:rank=3", "svd:rank=2+int8/int4", "svd:rank=3+int8/trellis:bits=4", "svd:ratio=0.5+trellis:bits=6"),
    *("tucker:ratio=0.5", "tucker:ranks=4-4-3+int8/int4", "tt:rank=4+int8", "tt:error=0.5", "cp:rank=3", "int8+zstd"),
    *("base/lossless", "base/int4", "base/trellis:bits=3"),
]
MORE = [
    *("svd:rank=auto+int8/int4", "svd:rank=1,unfold=spatial", "svd:rank=99999999", "tt:ranks=9-9-9-9", "tucker:rank=7"),
    *("tucker:ranks=1", "tt:rank=4", "cp:error=0.5", "base/exact", "rot13", "", "+", "lossless+int8", "exact", "int8"),
    *("int:bits=3,group=column", "int:bits=2,group=row,rows=4", "positive:domain=sqrt+svd:rank=2", "bitpack", "base"),
    *(
        "int4/int4",
        "huffman+zstd",
        "rans",
        "trellis:bits=20",
        "trellis:error=0.1",
        "log:mu=3.0",
        "/",
        "int4/exact/exact",
    ),
]
CHAINS = [
    "",
    "lossless",
    "lossless:effort=max",
    "exact",
    "huffman",
    "bitpack",
    "bitpack+zstd",
    "rans",
    "records",
    "zstd",
    "int8",
    "+",
]
DTYPES = ["F32", "BF16", "F16", "F64", "U8", "I64", "BOOL", "F4", "F6_E2M3", "C64", "C128", "F8_E4M3", "F8_E8M0", "x"]
SIZES = [0, 1, 2, 3, 5, 7, 8, 63, 64, 255, 256, 4096, 65536, 2**20, 2**20 + 1, 2**45, 2**62, 2**63, 2**64, -1]
JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [[]],
    [0],
    "\ud800",
    "\0",
    "n" * 5000,
    "../x",
    10**30,
    1e300,
]


@dataclass(frozen=True)
class Sound:
    """An archive that was made as it should be."""

    apart: Apart
    base: Path | None
    source: Path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Sound]:
    folder = tmp_path_factory.mktemp("corpus")
    near = weights(24, 40, seed=1)
    tensors = {
        "matrix": near,
        "half": bf16(weights(24, 40, seed=2)),
        "kernel": weights(8, 6, 9, seed=3),
        "vector": weights(70, seed=4),
        "ids": np.arange(50),
        "byte": random_raw("F8_E4M3", (16, 16)),
        "none": np.zeros((0, 3), "<f4"),
        "one": near,
    }
    source = write(folder / "m.safetensors", tensors, {"format": "pt"})
    other = {"matrix": near + np.float32(1e-4) * weights(24, 40, seed=9), "one": near}
    base = write(folder / "base.safetensors", tensors | other)
    positive = write(folder / "p.safetensors", {"matrix": near**2, "vector": np.abs(weights(70))})
    found = []
    for number, choice in enumerate(CHOICES):
        on_base, lossy = choice.startswith("base/"), choice.removeprefix("base/")
        used = positive if lossy.startswith("positive") else source
        name = "kernel" if lossy.startswith(("tt", "tucker", "cp")) else "*"
        out = folder / f"{number}.bale"
        bale.compress(used, out, rules=[f"{name}={lossy}"], base=base if on_base else None, allow_unmatched=True)
        found.append(Sound(Apart.of(out.read_bytes()), base if on_base else None, used))
    return found


def ways(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all that is within a JSON value."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*way, key)
        yield from ways(value, (*way, key))


def forge_anything(rng: np.random.Generator, manifest: JSON) -> None:
    """Other values, of the same kind or of any, at any place."""
    found = list(ways(manifest["units"][int(rng.integers(len(manifest["units"])))] if rng.random() < 0.7 else manifest))
    *way, last = found[int(rng.integers(len(found)))]
    node: Any = None
    for unit in (manifest, *manifest["units"]):
        try:
            node = unit
            for step in way:
                node = node[step]
            node[last]
        except (KeyError, IndexError, TypeError):
            continue
        break
    old, kind = node[last], rng.integers(6)
    if kind == 0 and isinstance(node, dict):
        del node[last]
    elif kind == 1 and isinstance(old, list) and old:
        old.append(old[int(rng.integers(len(old)))])
    elif kind == 2 and isinstance(old, list) and old:
        del old[int(rng.integers(len(old)))]
    elif kind < 5 and type(old) is int:
        node[last] = int(rng.choice([-1, 1])) + old if kind == 3 else SIZES[int(rng.integers(len(SIZES)))]
    else:
        node[last] = JUNK[int(rng.integers(len(JUNK)))]


def forge_pipeline(rng: np.random.Generator, manifest: JSON) -> None:
    """A pipeline that the unit was not coded with; sometimes with what goes with it."""
    units = manifest["units"]
    unit = units[int(rng.integers(len(units)))]
    pipelines = [*MORE, *(each.replace("base/lossless", "base/exact") for each in CHOICES)]
    unit["pipeline"] = str(rng.choice(pipelines))
    if rng.random() < 0.5:
        twin = units[int(rng.integers(len(units)))]
        unit.update({key: twin[key] for key in ("parts", "first", "base", "errors") if key in twin})
    if rng.random() < 0.5:
        for part in unit["parts"]:
            part["name"] = str(rng.choice(["data", "qdata", "scale", "u", "vh", "core", "g0", "u0", "rest.data", "a0"]))


def forge_shape(rng: np.random.Generator, manifest: JSON) -> None:
    """Other shapes of a unit and its parts, mostly of as many elements."""
    unit = manifest["units"][int(rng.integers(len(manifest["units"])))]
    targets = [unit, *unit["parts"]]
    for target in targets if rng.random() < 0.3 else [targets[int(rng.integers(len(targets)))]]:
        shape, kind = target["shape"], int(rng.integers(7))
        if kind == 0:
            shape.reverse()
        elif kind == 1:
            shape.insert(int(rng.integers(len(shape) + 1)), 1)
        elif kind == 2:
            target["shape"] = [int(np.prod(shape, dtype=object))]
        elif kind == 3:
            target["shape"] = [1] * int(rng.integers(70)) + shape
        elif kind == 4 and shape:
            shape[int(rng.integers(len(shape)))] = SIZES[int(rng.integers(len(SIZES)))]
        elif kind == 5:
            target["dtype"] = str(rng.choice(DTYPES))
        else:
            target["shape"] = [int(each) for each in rng.integers(0, 5, int(rng.integers(5)))]


def forge_part(rng: np.random.Generator, manifest: JSON) -> None:
    """How a part is stored."""
    parts = [part for unit in manifest["units"] for part in unit["parts"]]
    part, kind = parts[int(rng.integers(len(parts)))], int(rng.integers(5))
    if kind == 0:
        part["storage"] = [str(rng.choice(CHAINS)) for _ in part["storage"]]
    elif kind == 1:
        part["bits"] = int(rng.integers(0, 10))
    elif kind == 2:
        part["chunk"] = SIZES[int(rng.integers(len(SIZES)))]
    elif kind == 3:
        part["dtype"] = str(rng.choice(DTYPES))
    else:
        part["storage"].append("zstd")


def forge_views(rng: np.random.Generator, manifest: JSON) -> None:
    """Tensors that lie elsewhere in their unit, with strides."""
    unit = manifest["units"][int(rng.integers(len(manifest["units"])))]
    views = []
    for number in range(int(rng.integers(4))):
        shape = [int(each) for each in rng.choice([0, 1, 2, 5, 40, 2**30], int(rng.integers(5)))]
        strides = [int(each) for each in rng.choice([0, 0, 1, 2, 40, 2**61], len(shape))]
        name = str(rng.choice([f"v{number}", "matrix", "a\0b", "..", "x:data", ""]))
        views.append(
            [name, str(rng.choice(DTYPES)), shape, int(rng.integers(3)), strides if rng.random() < 0.8 else None]
        )
    unit["views"] = views


def forge_links(rng: np.random.Generator, manifest: JSON) -> None:
    """What a unit shares with another, or has from elsewhere."""
    unit = manifest["units"][int(rng.integers(len(manifest["units"])))]
    sums = [1.0, 1.0, 1.0, 1.0, 1.0]
    key = str(rng.choice(["same_as", "base", "first", "errors", "norm2", "exact", "swapped", "notes"]))
    unit[key] = [0, 1, "0" * 32, ["0" * 32, sums], sums, [0.0] * 5, 1e99, 5e-324, True, ["x"]][int(rng.integers(10))]
    if rng.random() < 0.5:
        unit["parts"] = []


FORGERIES = [forge_anything, forge_pipeline, forge_shape, forge_part, forge_views, forge_links]


def read(archive: Path, sound: Sound, verb: int, out: Path) -> None:
    """What there is that reads archives."""
    if verb == 0:
        bale.inspect(archive)
        bale.verify(archive, base=sound.base, threads=1)
    elif verb == 1:
        bale.decompress(archive, out, base=sound.base, force=True, threads=1)
    elif verb == 2:
        bale.decompress(archive, out, base=sound.base, force=True, threads=1, layers=1)
    elif verb == 3:
        bale.verify(archive, base=sound.base, against=sound.source, threads=1)
    elif verb == 4:
        bale.decompress(archive, out, tensors=["*"], base=sound.base, force=True, threads=1)
    elif verb == 5:
        bale.compare(sound.source, archive, threads=1)
    else:
        with bale.open(archive, base=sound.base, threads=1) as tensors:
            tensors.report.to_json()
            for name in tensors:
                try:
                    tensors.parts(name)
                finally:
                    tensors.bits(name)


def attack(folder: Path, corpus: list[Sound], forge: Any, rounds: int, seed: int) -> int:
    """Forge and read; returns how often that was refused."""
    rng, archive, refused = np.random.default_rng(seed), folder / "bad.bale", 0
    for _ in range(rounds):
        sound = corpus[int(rng.integers(len(corpus)))]
        forged = sound.apart.copy()
        try:
            forge(rng, forged.manifest)
            archive.write_bytes(forged.together())
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            continue  # has no header
        try:
            read(archive, sound, int(rng.integers(7)), folder / "out")
        except BaleError as error:
            assert error.code in (2, 3, 4, 5, 6)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    return refused


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of sums of forged values
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda each: each.__name__)
def test_every_forgery_is_refused_in_a_sentence(tmp_path: Path, corpus: list[Sound], forge: Any) -> None:
    assert attack(tmp_path, corpus, forge, 150, 0) > 40


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda each: each.__name__)
def test_many_forgeries_are_refused_in_a_sentence(tmp_path: Path, corpus: list[Sound], forge: Any) -> None:
    assert attack(tmp_path, corpus, forge, 10_000, 1) > 2000
