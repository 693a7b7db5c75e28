"""Memory follows the largest tensor, not the model."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.floats import from_float32
from bale.spec import TensorSpec
from tests import as_users_have_it
from tests.making import Raw, write

MB = 1_000_000
SCRIPT = """
import re, sys, bale, bale.api
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
source, choice, threads, warm = sys.argv[1:]
if warm:
    bale.compress(warm, f'{warm}.bale', pipeline=choice, threads=1, force=True)  # libraries: start-up
elif choice != "lossless":
    import bale.compressors.contexts.fields  # the compiler: start-up, which the lossless way does without
start = peak()
bale.compress(source, f'{source}.bale', pipeline=choice, threads=int(threads), force=True)
bale.verify(source + ".bale", threads=int(threads))
print(peak() - start)
"""  # not ru_maxrss, which begins with that of the parent process

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")


def peak(source: Path, choice: str, threads: int, warm: Path | str = "") -> int:
    """Bytes that a process grows by while it compresses and verifies."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(source), choice, str(threads), str(warm)]
    done = subprocess.run(command, env=as_users_have_it(), capture_output=True, text=True, check=True)
    return int(done.stdout)


def large(path: Path, pieces: int) -> Path:
    """So many times 2 MiB of F16 in five tensors, one of which is half of the file."""
    piece = (0.02 * np.random.default_rng(0).standard_normal(1 << 20)).astype("<f2").tobytes()
    tensors = {}
    for number, count in enumerate([pieces // 2, *[pieces // 8] * 4]):
        data = number.to_bytes(2, "little") + piece[2:] + (count - 1) * piece  # no two of them are equal
        tensors[f"w{number}"] = Raw("F16", (count << 10, 1 << 10), data)
    return write(path, tensors)


def low_rank(path: Path, dtype: str, shape: tuple[int, ...], count: int = 1) -> Path:
    """Tensors of rank 64 and noise."""
    tensors = {}
    for number in range(count):
        rng, (m, n) = np.random.default_rng(number), (shape[0], math.prod(shape[1:]))
        r = min(64, m, n)
        sizes = np.float32(0.9) ** np.arange(r, dtype=np.float32)
        x = (rng.standard_normal((m, r), np.float32) * sizes) @ rng.standard_normal((r, n), np.float32)
        x += np.float32(0.05) * rng.standard_normal(x.shape, np.float32)
        tensors[f"w{number}"] = Raw(dtype, shape, from_float32(x, TensorSpec(dtype, x.shape)).tobytes())
    return write(path, tensors)


def check_whole(folder: Path, choice: str, dtype: str, shape: tuple[int, ...], most: float, count: int = 1) -> None:
    """At most so many times the size of the largest tensor, whatever the threads."""
    small = (300, 300) if len(shape) == 2 else (96, 64, *shape[2:])
    warm = low_rank(folder / "warm.safetensors", dtype, small)
    source = low_rank(folder / "m.safetensors", dtype, shape, count)
    size = TensorSpec(dtype, shape).nbytes
    assert peak(source, choice, 2 * count, warm) <= most * size


def test_a_decomposition(tmp_path: Path) -> None:
    check_whole(tmp_path, "svd:rank=16", "BF16", (4096, 4096), 6)


SQUARE, TALL, KERNEL = (8192, 4096), (262144, 128), (2048, 1792, 3, 3)
WHOLE = [
    ("trellis:bits=3", SQUARE, 3, 3),
    ("trellis:bits=3/exact", SQUARE, 6, 6),
    ("svd:rank=64", SQUARE, 6, 6),
    ("svd:error=0.3", SQUARE, 6, 6),
    ("svd:ratio=0.4", SQUARE, 6, 12),
    ("svd:rank=64+int8", SQUARE, 6, 6),
    ("svd:rank=64+trellis:bits=3", SQUARE, 6, 6),
    ("svd:rank=64+int8/exact", SQUARE, 6, 6),
    ("svd:rank=64+int8/int:bits=3", SQUARE, 6, 7),
    ("svd:rank=64+int8/trellis:bits=3", SQUARE, 6, 7),
    ("svd:rank=auto+int8/int:bits=3", SQUARE, 6, 12),
    ("svd:ratio=0.4", TALL, 6, 12),
    ("svd:error=0.2", TALL[::-1], 6, 12),
    ("tucker:ratio=0.3", KERNEL, 6, 12),
    ("tt:rank=64", KERNEL, 6, 12),
    ("tt:error=0.3", KERNEL, 6, 12),
    ("cp:rank=4", KERNEL, 6, 12),
]
"""Pipelines, shapes, and how many times its size a tensor takes: one of F32, and one of 16 bits."""


@pytest.mark.soak
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize(("choice", "shape", "single", "half"), WHOLE)
def test_tensors_coded_as_a_whole(
    tmp_path: Path, choice: str, shape: tuple[int, ...], single: float, half: float, dtype: str
) -> None:
    """Decompositions: 6 times the float32 size, and 6 times the size of 16 bits where few ranks are wanted."""
    check_whole(tmp_path, choice, dtype, shape, single if dtype == "F32" else half)


@pytest.mark.soak
@pytest.mark.parametrize(("choice", "most"), [("svd:rank=64", 6), ("svd:rank=64+int8/int:bits=3", 6), ("trellis", 3)])
def test_several_at_once(tmp_path: Path, choice: str, most: float) -> None:
    check_whole(tmp_path, choice, "F32", SQUARE, most, count=3)


@pytest.mark.parametrize("choice", ["lossless", "int4"])
def test_a_file_of_67_megabytes(tmp_path: Path, choice: str) -> None:
    """Behind one of a few chunks: the file alone, held in memory, would be more than what is allowed."""
    warm = low_rank(tmp_path / "warm.safetensors", "F16", (2000, 2000))
    source = large(tmp_path / "m.safetensors", 32)
    assert source.stat().st_size > 67 * MB
    assert peak(source, choice, 1, warm) <= 50 * MB


LOOKING = """
import re, sys, bale
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
def look(a, b, archive, out):
    bale.compare(a, b, threads=1)
    first = peak()
    bale.compare(a, archive, threads=1)
    second = peak()
    bale.decompress(archive, out, tensors=["w"], threads=1, force=True)
    return first, second, peak()
a, b, archive, out = sys.argv[1:]
look(*(f"{each}.small" for each in (a, b, archive)), out)
start = peak()
print(*(each - start for each in look(a, b, archive, out)))
"""


@pytest.mark.parametrize("choice", ["lossless", pytest.param("int4", marks=pytest.mark.soak)])
def test_a_tensor_of_67_megabytes_is_looked_at_in_pieces(tmp_path: Path, choice: str) -> None:
    """To hold it once, for `compare` or for ``decompress --tensor``, would be more than what is allowed."""
    rng = np.random.default_rng(0)
    piece = (0.02 * rng.standard_normal(1 << 20)).astype("<f2")
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "a.bale")]
    for end, count in (("", 32), (".small", 2)):
        a, b, archive = (path.with_name(path.name + end) for path in paths)
        for path, values in ((a, piece), (b, piece + np.float16(1e-3))):
            write(path, {"w": Raw("F16", (count << 10, 1 << 10), count * values.tobytes())})
        bale.compress(a, archive, pipeline=choice, verify=False)
    out = tmp_path / "out.safetensors"
    command = [sys.executable, "-W", "ignore", "-c", LOOKING, *map(str, paths), str(out)]
    done = subprocess.run(command, env=as_users_have_it(), capture_output=True, text=True, check=True)
    assert out.stat().st_size > 67 * MB
    assert max(map(int, done.stdout.split())) <= 40 * MB, done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("choice", ["lossless", "int4", "int:clip=mse"])
def test_a_large_file(tmp_path: Path, choice: str, threads: int) -> None:
    source = large(tmp_path / "m.safetensors", 400)
    assert source.stat().st_size > 800 * MB
    assert peak(source, choice, threads) <= 200 * MB + 16 * MB * threads


MANY = """
import re, sys, bale
verb, source, archive, out = sys.argv[1:]
if verb == "compress":
    bale.compress(source, archive)
elif verb == "verify":
    bale.verify(archive)
elif verb == "compare":
    assert all(row.status == "equal" for row in bale.compare(source, archive))
elif verb == "--tensor":
    bale.decompress(archive, out, tensors=["*"])
else:
    import bale.torch
    assert len(bale.torch.load_state_dict(archive)) == 100_000
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]))
"""


@pytest.mark.soak
def test_100_000_tensors(tmp_path: Path) -> None:
    """Whatever is done to them takes less than 1 GB, start-up and libraries included."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(64, 2048, 100_000, endpoint=True)
    values = (0.02 * rng.standard_normal(int(sizes.sum()), np.float32)).astype("<f2")
    split = np.split(values, np.cumsum(sizes)[:-1])
    tensors = {
        f"layers.{n // 8}.part.{n % 8}.w": Raw("F16", (each.size,), each.tobytes()) for n, each in enumerate(split)
    }
    source = write(tmp_path / "m.safetensors", tensors)
    del tensors, split, values
    for verb in ("compress", "verify", "compare", "--tensor", "load"):
        paths = [str(source), f"{source}.bale", str(tmp_path / "out.safetensors")]
        command = [sys.executable, "-W", "ignore", "-c", MANY, verb, *paths]
        done = subprocess.run(command, env=as_users_have_it(), capture_output=True, text=True, check=True)
        assert int(done.stdout) <= 1000 * MB, (verb, done.stdout)
