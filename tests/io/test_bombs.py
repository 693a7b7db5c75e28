"""Small inputs that would cost a great deal: memory and work are bounded by what is read."""

from __future__ import annotations

import errno
import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard

import bale
from bale.compressors.base import Values
from bale.compressors.entropy import huffman
from bale.compressors.serializers.zstd import Zstd
from bale.compressors.trellis.codec import Trellis
from bale.compressors.trellis.scaling import Scaling
from bale.compressors.trellis.stream import read_shape, write_plain
from bale.engine.reading.open import open_tensors
from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.archive import archive as archive_module
from bale.io.faults import Unsupported
from bale.io.sources.pickle import reader as pickle_reader
from bale.io.sources.pickle import walk
from bale.io.sources.pickle.reader import PickleError, parse_pickle
from bale.io.sources.torch.tensors import find_tensors
from bale.io.storage import files
from bale.spec import TensorSpec
from tests.forging import Apart
from tests.io.reading import torch_zip
from tests.making import bf16, names_in, weights, write

PICKLES = {
    "dicts": b"](" + b"}" * 20_000 + b"e.",
    "lists": b"](" + b"]" * 50_000 + b"e.",
    "places in the memo": b"]" + b"\x94" * 30_000 + b".",
    "marks": b"(" * 50_000 + b".",
    "calls": b"](" + b"))R" * 20_000 + b"e.",
}


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Memory that may be taken within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_make_no_more_than_so_much_of_a_byte(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With a hundredth of the limit, and of what would be made."""
    monkeypatch.setattr(pickle_reader, "_FLOOR", 1 << 20)
    data = b"\x80\x04" + PICKLES[kind]
    with at_most(4_500_000), pytest.raises(PickleError, match="bytes of memory"):
        parse_pickle(data)


def test_a_container_that_lists_itself_very_often_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is stored all the same."""
    monkeypatch.setattr(walk, "VISIT_LIMIT", 20_000)
    data = b"\x80\x02]" + b"2" * 100_000 + b"a" * 100_000 + b"."
    parsed = parse_pickle(data)
    with at_most(3_500_000), pytest.raises(Unsupported, match="lists more than 20000 containers"):
        find_tensors(parsed.value)
    source = torch_zip(tmp_path / "m.pt", data)
    bale.compress(source)
    assert "opaque" in str(bale.inspect(f"{source}.bale")["notes"])
    bale.decompress(f"{source}.bale", tmp_path / "back")
    assert source.read_bytes() == (tmp_path / "back").read_bytes()


def test_what_torch_saves_is_far_from_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of an optimizer: for each of 2,000 parameters a dict of two tensors and a number."""
    monkeypatch.setattr(pickle_reader, "_FLOOR", 0)
    one, stream = torch.zeros(2), io.BytesIO()
    state = {n: {"step": n, "exp_avg": one[:1], "exp_avg_sq": one[1:]} for n in range(2000)}
    torch.save(state, stream)
    with zipfile.ZipFile(stream) as file:
        data = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    with at_most(24 * len(data)):  # what is counted is more than what is taken
        parsed = parse_pickle(data)
    assert len(find_tensors(parsed.value)[0]) == 4000


def test_checksums_of_more_than_twice_the_source_are_refused(tmp_path: Path) -> None:
    """Each of them would be computed: few bytes of a manifest could ask for terabytes."""
    source = write(tmp_path / "m.safetensors", {"w": np.zeros((1000, 1000), "<f4")})
    bale.compress(source, tmp_path / "m.bale")
    apart = Apart.of((tmp_path / "m.bale").read_bytes())
    size = apart.manifest["source"]["bytes"]
    apart.manifest["units"][0]["errors"] = [1, 1, 1, 1, 1]
    for checksums, refused in (
        ([[0, size, [8]]] * 40, True),
        ([[0, size, [8]], [0, size, [8]], [0, 1, [8]]], True),
        ([[0, size, [8]], [0, size, [8]]], False),  # as of a ZIP file in a ZIP file
    ):
        apart.manifest["checksums"] = checksums
        (tmp_path / "bad.bale").write_bytes(apart.together())
        if refused:
            with pytest.raises(ArchiveError, match="checksums of more than the source"):
                bale.inspect(tmp_path / "bad.bale")
        else:
            bale.inspect(tmp_path / "bad.bale")


@pytest.mark.parametrize("shape", [(3000, 1000), (1, 3_000_001)])
def test_a_plain_stream_takes_little_more_than_its_tensor(shape: tuple[int, ...]) -> None:
    """Of no bits: some 20 bytes say what millions of elements are."""
    spec = TensorSpec("BF16", shape)
    data = np.frombuffer(write_plain(np.zeros(1, np.int32), np.float32(0.5), Scaling(spec)), np.uint8)
    assert data.size < 30
    part = {"qdata": Values(TensorSpec("U8", data.shape), data)}
    with at_most(2 * spec.nbytes):
        assert not Trellis().decode(part, spec).any()


@pytest.mark.parametrize("count", [1, 7, 65_535, 65_536, 65_537, 140_001])
def test_plain_streams_of_any_length_come_back(count: int) -> None:
    spec = TensorSpec("F32", (count,))
    indices = np.random.default_rng(count).integers(-5, 14, count).astype(np.int32)
    data = np.frombuffer(write_plain(indices, np.float32(0.5), Scaling(spec)), np.uint8)
    decoded = Trellis().decode({"qdata": Values(TensorSpec("U8", data.shape), data)}, spec)
    assert (decoded == indices * np.float32(0.5)).all()


def test_a_shape_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="a shape beyond"):
        read_shape(memoryview(b"\x00\x01" + b"\xff" * 1_000_000 + b"\x01"))


def test_tensors_that_repeat_a_few_bytes_without_end_are_refused(tmp_path: Path) -> None:
    small, large = torch.arange(4.0), torch.ones(1).expand(1 << 17, 1 << 13)
    torch.save({"few": small[:1].expand(500, 3), "many": large}, tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt", tmp_path / "m.bale")
    for path in (tmp_path / "m.pt", tmp_path / "m.bale"):
        with open_tensors(path) as tensors, at_most(1 << 22):
            assert tensors["few"].shape == (500, 3)
            with pytest.raises(SourceError, match="many says 4294967296 bytes by repeating the 4 that it has"):
                tensors["many"]
    with at_most(1 << 24), pytest.raises(SourceError, match="by repeating"):
        bale.compare(tmp_path / "m.pt", tmp_path / "m.bale")
    with at_most(1 << 24), pytest.raises(SourceError, match="by repeating"):
        bale.decompress(tmp_path / "m.bale", tmp_path / "out", tensors=["many"])
    bale.decompress(tmp_path / "m.bale", tmp_path / "back")
    assert (tmp_path / "m.pt").read_bytes() == (tmp_path / "back").read_bytes()


class Lacking:
    """A coder that finds no memory."""

    def compress(self, *_: object, **__: object) -> bytes:
        raise zstandard.ZstdError("cannot compress: Allocation error : not enough memory")

    decompress = stream_reader = compress


@pytest.mark.parametrize(
    "work",
    [
        lambda: huffman.compress(np.zeros(4, np.uint8)),
        lambda: huffman.compress_general(np.zeros(4, np.uint8)),
        lambda: huffman.decompress(memoryview(zstandard.compress(bytes(4))), np.zeros(4, np.uint8)),
        lambda: Zstd().encode(b"1234"),
        lambda: Zstd().decode(zstandard.compress(b"1234"), 4),
        lambda: archive_module._fold(b"1234", 3),
        lambda: archive_module._unfold(zstandard.compress(b"1234"), 4, "it", 100),
    ],
)
def test_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    class Coders:
        literals = general = decoder = Lacking()

    monkeypatch.setattr(huffman, "_coders", Coders())
    honest = zstandard.compress
    frames = {data: honest(data) for data in (bytes(4), b"1234")}
    monkeypatch.setattr(zstandard, "compress", lambda data: frames[data])
    for name in ("ZstdCompressor", "ZstdDecompressor"):
        monkeypatch.setattr(zstandard, name, lambda *_, **__: Lacking())
    with pytest.raises(MemoryError):
        work()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_size_that_a_file_cannot_be_given_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As when what was coded with loss is taken back, and where a checkpoint ends."""
    source = write(tmp_path / "m.safetensors", {"w": bf16(weights(64, 64)), "n": np.full((64, 64), np.nan, "<f4")})
    bale.compress(source, tmp_path / "m.bale")
    before = names_in(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "ftruncate", fail)
    with pytest.raises(OutputError, match="cannot write"):
        bale.compress(source, tmp_path / "other.bale", rules=["n=int8", "w=int8"])
    with pytest.raises(OutputError, match="cannot write"):
        bale.decompress(tmp_path / "m.bale", tmp_path / "back")
    assert names_in(tmp_path) == before
