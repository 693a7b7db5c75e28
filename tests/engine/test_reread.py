"""A source that does not read the same twice: what exit 0 leaves gives back what was read, or the run fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash

import bale
from bale.engine.reading.source import _Swapped
from bale.errors import SourceError
from bale.io.storage.files import LocalFile
from tests.io.reading import members, rezip
from tests.making import bf16, sha256, weights, write

IN_BLOCKS = ["lossless", "int4", "int8/exact"]
WHOLE = ["lossless", "codebook", "trellis:bits=4", "svd:rank=4+int8", "svd:rank=4+int8/int4", "int8/exact"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    long = bf16(weights(1200, 1000, seed=1))  # coded in blocks, by what is measured in passes before
    tensors = {"a": weights(80, 80), "long": long, "again": weights(80, 80), "ids": np.arange(900), "z": weights(9, 9)}
    return write(tmp_path / "m.safetensors", tensors)


class Flipped:
    """One bit of one read of a file is wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
        self.reads, self._number, self._inode = 0, number, path.stat().st_ino
        self._read: Callable[..., int] = os.preadv
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, descriptor: int, buffers: list[memoryview], offset: int, *rest: Any) -> int:
        got = self._read(descriptor, buffers, offset, *rest)
        if os.fstat(descriptor).st_ino == self._inode:
            self.reads += 1
            if self.reads == self._number and got:
                buffers[0][got // 2] ^= 64
        return got


@pytest.mark.parametrize("choice", [*(f"{each} in blocks" for each in IN_BLOCKS), *WHOLE])
def test_one_wrong_bit_in_any_read(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    if not choice.endswith(" in blocks"):
        source = write(
            tmp_path / "short.safetensors", {"a": weights(80, 80), "again": weights(80, 80), "z": weights(9)}
        )
    choice = choice.removesuffix(" in blocks")
    before, archive, failures, number = sha256(source), tmp_path / "m.bale", 0, 0
    while True:
        number += 1
        with monkeypatch.context() as patch:
            flipped = Flipped(patch, source, number)
            try:
                bale.compress(source, archive, pipeline=choice, force=True)
            except SourceError:
                failures += 1
                continue
            finally:
                reads = flipped.reads
        if reads < number:
            break
        bale.verify(archive, source)
        done = bale.decompress(archive, tmp_path / "back", force=True)
        assert not done.exact or sha256(tmp_path / "back") == before
    assert failures >= 4  # of the header, of the skeleton, of what is coded, of what is digested


def test_it_is_told_of_which_tensor(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "m.bale"
    errors = []
    for number in range(1, 40):
        with monkeypatch.context() as patch:
            Flipped(patch, source, number)
            try:
                bale.compress(source, archive, force=True)
            except SourceError as error:
                errors.append(error)
    told = [error for error in errors if "did not read the same twice" in error.message]
    places = {error.message.rpartition(" at ")[2] for error in told}
    assert {"its header", "long"} <= places <= {"its header", "a", "long", "again", "ids", "z"}
    assert all("check the disk and the memory" in error.hint for error in told)


def test_a_change_that_keeps_size_and_time_is_found(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a copy that is written in place and given the time of its original."""
    from bale.engine.estimate import resolve

    finds, stat = resolve.find_duplicates, source.stat()

    def changing(*arguments: Any) -> Any:
        with open(source, "r+b") as file:
            file.seek(stat.st_size - 40)
            file.write(b"\x17")
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return finds(*arguments)

    monkeypatch.setattr(resolve, "find_duplicates", changing)
    try:
        bale.compress(source, tmp_path / "m.bale")
    except SourceError as error:
        assert "did not read the same twice" in error.message  # noqa: PT017  (it depends on who reads first)
        assert not (tmp_path / "m.bale").exists()
    else:
        bale.verify(tmp_path / "m.bale", source)


def test_elements_that_are_swapped_are_digested_as_they_are_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    values = weights(5, 7).astype("<f4")
    digest = _Swapped(np.dtype("<f4"))
    raw = memoryview(values.byteswap().tobytes())
    for start in range(0, len(raw), 13):  # pieces end within elements
        digest.update(raw[start : start + 13])
    assert digest.hexdigest() == xxhash.xxh3_128_hexdigest(values.tobytes())


def test_big_endian_files_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.randn(300, 100), "i": torch.arange(70)}, path)
    content = members(path)
    big = rezip(tmp_path / "big.pt", content | {"m/byteorder": b"big"})
    bale.compress(big, tmp_path / "m.bale")
    assert bale.verify(tmp_path / "m.bale", big).exact


@pytest.mark.parametrize("problem", [MemoryError("no room"), OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_whatever_stops_the_digest_is_the_error_of_the_run(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    """Not a digest of less than the file, nor a difference that is not there."""

    def fail(*_: object) -> Any:
        raise problem

    monkeypatch.setattr(LocalFile, "blocks", fail)
    with pytest.raises(type(problem)) as caught:
        bale.compress(source, tmp_path / "m.bale")
    assert caught.value is problem
    assert not (tmp_path / "m.bale").exists()
