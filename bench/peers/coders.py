"""bale's lossless codec and its peers behind one interface; run in the peers' venv.

`python -m bench.peers.coders measure|memory|damage FOLDER` prints JSON. FOLDER holds one set of tensors of one dtype:
`set.json` and `set.bin`. bale and OpenZL get 2^20 elements at a time, the others whole tensors.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.zipnn import CHUNK, ZIPNN_NAMES

Array = np.ndarray[Any, np.dtype[Any]]
PLACES = 20
PATIENCE = 30  # seconds until a decoder of damaged bytes is taken to hang
OUTCOMES = ("told", "silent", "harmless", "crashed")


@dataclass(frozen=True)
class Coder:
    """A codec for one dtype.

    Attributes
    ----------
    encode : callable
        Maps a piece of a tensor to bytes.
    decode : callable
        Maps the bytes, and an array of the piece's size that can be written to, to something with the piece's bytes.
    piece : int or None
        Elements at a time; None for whole tensors.
    pooled : bool
        Whether threads work on different pieces; else the codec has threads of its own.
    own : callable
        A copy of a piece that the codec may change.
    placed : bool
        Whether `encode` is also told the shape of the tensor and where in it the piece begins.
    """

    encode: Callable[..., Any]
    decode: Callable[[Any, Array], Any]
    piece: int | None = None
    pooled: bool = False
    own: Callable[[Any], Any] = lambda piece: piece
    placed: bool = False

    def encoded(self, piece: Any, shape: tuple[int, ...], start: int) -> Any:
        return self.encode(piece, shape, start) if self.placed else self.encode(piece)


def bale_coder(dtype: str, **settings: Any) -> Coder:
    from bale.compressors.base import Place, Values
    from bale.compressors.lossless.codec import Lossless
    from bale.spec import TensorSpec

    codec = Lossless(**settings)
    return Coder(
        lambda piece, shape=(), start=0: codec.encode(
            Values(TensorSpec(dtype, piece.shape), piece, place=Place(shape, start))
        ),
        lambda data, out: codec.decode(memoryview(data), TensorSpec(dtype, out.shape), None, out),
        CHUNK,
        pooled=True,
        placed=True,
    )


def zipnn_coder(dtype: str, threads: int) -> Coder:
    import zipnn

    codec = zipnn.ZipNN(bytearray_dtype=ZIPNN_NAMES[dtype], threads=threads)
    return Coder(codec.compress, lambda data, out: codec.decompress(data), own=lambda piece: bytearray(piece))


def openzl_coder(dtype: str, split: bool) -> Coder:
    """OpenZL's tutorial graph for floats, or one that codes the bytes of sign and fraction too."""
    import openzl.ext as zl

    graphs, nodes, compressor = zl.graphs, zl.nodes, zl.Compressor()
    compressor.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
    fse = graphs.Fse()(compressor)
    bytes_apart = nodes.TransposeSplit()(compressor, fse)
    if dtype == "F8_E4M3":
        graph = nodes.ConvertNumToSerialLE()(compressor, fse)
    elif dtype == "F16" and split:
        graph = nodes.ConvertNumToStructLE()(compressor, bytes_apart)
    elif dtype == "F16":
        packed = nodes.ConvertStructToNumLE()(compressor, graphs.Bitpack()(compressor))
        graph = nodes.Float16Deconstruct()(compressor, packed, fse)
    else:
        node = nodes.BFloat16Deconstruct if dtype == "BF16" else nodes.Float32Deconstruct
        graph = node()(compressor, bytes_apart if split else graphs.Store()(compressor), fse)
    compressor.select_starting_graph(graph)

    def encode(piece: Array) -> bytes:
        context = zl.CCtx()
        context.ref_compressor(compressor)
        coded: bytes = context.compress([zl.Input(zl.Type.Numeric, piece.view(f"u{piece.itemsize}"))])
        return coded

    return Coder(encode, lambda data, out: zl.DCtx().decompress(data)[0].content.as_nparray(), CHUNK, pooled=True)


def zstd_coder(threads: int, checksum: bool = False) -> Coder:
    import zstandard

    codec = zstandard.ZstdCompressor(level=3, threads=0 if threads == 1 else threads, write_checksum=checksum)
    decoder = zstandard.ZstdDecompressor()
    return Coder(lambda piece: codec.compress(piece.data), lambda data, out: decoder.decompress(data))


def blosc2_coder(threads: int) -> Coder:
    """Bytes of equal place side by side, then zstd: smaller on weights than with deltas, or with bits side by side."""
    import blosc2

    blosc2.set_nthreads(threads)
    how = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "filters_meta": [0]}
    return Coder(
        lambda piece: blosc2.compress2(piece, typesize=piece.itemsize, nthreads=threads, **how),
        lambda data, out: blosc2.decompress2(data, nthreads=threads),
    )


def coders(dtype: str, threads: int = 1) -> dict[str, Coder]:
    """All contestants by name."""
    from bale.compressors.lossless.codec import Lossless
    from bale.compressors.settings import settings

    ours = {"bale": bale_coder(dtype)}
    if "effort" in settings(Lossless):
        ours["bale, effort=max"] = bale_coder(dtype, effort="max")
    return ours | {
        "ZipNN": zipnn_coder(dtype, threads),
        "OpenZL": openzl_coder(dtype, split=False),
        "OpenZL, all bytes": openzl_coder(dtype, split=True),
        "zstd -3": zstd_coder(threads),
        "blosc2": blosc2_coder(threads),
    }


def read_set(folder: Path) -> tuple[str, Iterator[Array]]:
    """Dtype and tensors of a set."""
    about = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    words = np.dtype(about["storage"])
    starts = np.cumsum([0, *about["counts"]]) * words.itemsize
    file = folder / "set.bin"
    return about["dtype"], (
        np.fromfile(file, words, count, offset=int(start)).reshape(shape)
        for start, count, shape in zip(starts, about["counts"], about["shapes"], strict=False)
        if count
    )


def pieces(coder: Coder, array: Array) -> list[Array]:
    step = coder.piece or array.size
    return [array[start : start + step] for start in range(0, array.size, step)]


def mapped(pool: ThreadPoolExecutor | None, work: Callable[..., Any], *items: Iterable[Any]) -> list[Any]:
    return list(pool.map(work, *items) if pool else map(work, *items))


def same(decoded: Any, piece: Array) -> bool:
    return np.array_equal(np.frombuffer(decoded, np.uint8), piece.view(np.uint8))


def turn(coder: Coder, array: Array, pool: ThreadPoolExecutor | None, clock: Callable[[], float]) -> dict[str, float]:
    """Code and decode one tensor: stored bytes, seconds of both, and how many pieces came back different."""
    shape, array = array.shape, array.reshape(-1)
    parts = pieces(coder, array)
    out = np.empty_like(array)
    out.view(np.uint8).fill(1)
    outs = pieces(coder, out)
    pool = pool if coder.pooled else None
    inputs = [coder.own(part) for part in parts]
    began = clock()
    starts = range(0, array.size, coder.piece or array.size)
    coded = mapped(pool, lambda part, start: coder.encoded(part, shape, start), inputs, starts)
    encoding = clock() - began
    stored = [bytes(bytearray(data)) for data in coded]
    began = clock()
    decoded = mapped(pool, coder.decode, stored, outs)
    decoding = clock() - began
    wrong = sum(not same(result, part) for result, part in zip(decoded, parts, strict=True))
    return {"size": sum(map(len, stored)), "encode": encoding, "decode": decoding, "wrong": wrong}


def measure(folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Every coder's figures, one a round: they take turns on each tensor; a first round is not counted."""
    clock = time.process_time if threads == 1 else time.perf_counter
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(threads) as workers:
        pool = workers if threads > 1 else None
        for number in range(rounds + 1):
            dtype, arrays = read_set(folder)
            names = coders(dtype, threads)
            sums = {name: dict.fromkeys(("size", "encode", "decode", "wrong"), 0.0) for name in names}
            for array in arrays:
                for name, coder in names.items():
                    for key, value in turn(coder, array, pool, clock).items():
                        sums[name][key] += value
            for name, figures in sums.items():
                rows = found.setdefault(name, {key: [] for key in figures})
                for key, value in figures.items():
                    if number or key == "wrong":
                        rows[key].append(value)
    return found


def memory(folder: Path, name: str) -> dict[str, float | None]:
    """Bytes that a coder needs beyond the first tensor and its own copy of it, coded bytes and result included."""
    dtype, arrays = read_set(folder)
    array = next(arrays).reshape(-1)
    coder = coders(dtype)[name]
    turn(coder, array[: 1 << 16], None, time.process_time)  # imports, tables and compiled code are not counted
    inputs = [coder.own(part) for part in pieces(coder, array)]
    start = reset_peak()
    coded = [coder.encode(part) for part in inputs]
    encoding = peak() - start
    del inputs
    out = np.ones(coder.piece or 1, array.dtype)
    start = reset_peak()
    for part, data in zip(pieces(coder, array), coded, strict=True):
        coder.decode(bytes(data), out[: part.size] if coder.piece else part)
    return {"encode": encoding, "decode": peak() - start}


def reset_peak() -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return 1024 * int(found[1])


def damage(folder: Path) -> dict[str, dict[str, int]]:
    """What becomes of one flipped bit, at many places in the coded bytes of 2^20 elements."""
    dtype, arrays = read_set(folder)
    array = max(arrays, key=np.size).reshape(-1)[:CHUNK]
    contestants = coders(dtype) | {"zstd -3 --check": zstd_coder(1, checksum=True)}
    found = {}
    for name, coder in contestants.items():
        data = bytes(coder.encode(coder.own(array)))
        outcomes = [_decoded_apart(coder, flipped(data, number), array) for number in range(PLACES)]
        found[name] = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    return found


def flipped(data: bytes, number: int) -> bytes:
    """The bytes with one bit changed, somewhere in their middle half."""
    changed = bytearray(data)
    at = len(data) // 4 + (2 * number + 1) * len(data) // (4 * PLACES)
    changed[at] ^= 1 << number % 8
    return bytes(changed)


def _decoded_apart(coder: Coder, data: bytes, array: Array) -> str:
    """Decode in a process of its own, as a decoder may take the process with it."""
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        outcome = "told"
        with suppress(BaseException):  # whatever it says, it was told
            outcome = "harmless" if same(coder.decode(data, np.ones_like(array)), array) else "silent"
        os._exit(OUTCOMES.index(outcome))
    _, status = os.waitpid(child, 0)
    return OUTCOMES[os.WEXITSTATUS(status)] if os.WIFEXITED(status) else "crashed"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=("measure", "memory", "damage"))
    made.add_argument("folder", type=Path)
    made.add_argument("--coder", default="bale")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--threads", type=int, default=1)
    options = made.parse_args()
    if options.what == "measure":
        result: object = measure(options.folder, options.rounds, options.threads)
    elif options.what == "memory":
        result = memory(options.folder, options.coder)
    else:
        result = damage(options.folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
