"""Memory follows the largest tensor, not the model (T13)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.making import Raw, write

MB = 1_000_000
SCRIPT = """
import re, sys, bale, bale.api
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
source, choice, threads = sys.argv[1:]
if choice != "lossless":
    import bale.compressors.lossless.fields  # the compiler: start-up, which the lossless way does without
start = peak()
bale.compress(source, pipeline=choice, threads=int(threads), force=True)
bale.verify(source + ".bale", threads=int(threads))
print(peak() - start)
"""  # not ru_maxrss, which begins with that of the parent process

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")


def peak(source: Path, choice: str, threads: int) -> int:
    """Bytes that a process grows by while it compresses and verifies."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(source), choice, str(threads)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def large(path: Path, pieces: int) -> Path:
    """So many times 2 MiB of F16 in five tensors, one of which is half of the file."""
    piece = (0.02 * np.random.default_rng(0).standard_normal(1 << 20)).astype("<f2").tobytes()
    tensors = {}
    for number, count in enumerate([pieces // 2, *[pieces // 8] * 4]):
        data = number.to_bytes(2, "little") + piece[2:] + (count - 1) * piece  # no two of them are equal
        tensors[f"w{number}"] = Raw("F16", (count << 10, 1 << 10), data)
    return write(path, tensors)


@pytest.mark.parametrize("choice", ["lossless", "int4"])
def test_a_file_of_150_megabytes(tmp_path: Path, choice: str) -> None:
    """The file alone, held in memory, would be more than what is allowed."""
    source = large(tmp_path / "m.safetensors", 72)
    assert source.stat().st_size > 150 * MB
    assert peak(source, choice, 1) <= 140 * MB


@pytest.mark.soak
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("choice", ["lossless", "int4", "int:clip=mse"])
def test_a_large_file(tmp_path: Path, choice: str, threads: int) -> None:
    source = large(tmp_path / "m.safetensors", 400)
    assert source.stat().st_size > 800 * MB
    assert peak(source, choice, threads) <= 200 * MB + 16 * MB * threads
