"""The lossless codec against ZipNN, one thread, in one process: `python -m bench.peers.zipnn [FILE...]`.

Runs with the python of the lossless peers, so that both codecs share one numpy and take turns on the same tensors.
Speeds are medians over the rounds, in MB per second of
CPU time; ratios are medians of the ratios within a round and hardly depend on what else the machine is doing.

Without files: tensors of 4096 x 4096 shaped like the weights of a language model, Gaussian with one scale per row
drawn from a log-normal distribution (mu -3.5, sigma 0.35), seed 1. The BF16 set has 256 MB, the others a quarter of
its tensors. Each FILE (safetensors or a torch state dict) is measured by dtype; F32 also as a cast to BF16.

ZipNN gets whole tensors, as its own script does; bale gets chunks of 2^20 elements, as from its engine, and decodes
them into one buffer, as its engine does. With ``--piece N`` ZipNN gets N bytes at a time: 2 MiB stay in the cache and
suit it best.

With ``--two-threads`` the table tells how far two threads get in the time of one, in wall time: bale's each code half
of the chunks, ZipNN is told to use two. *Free* is how far two threads of SHA-256 got in between, which is 2 on a
machine with nothing else to do; rounds with less than 1.8 are measured again, up to ten times as many as are wanted.
"""

from __future__ import annotations

import argparse
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CHUNK = 1 << 20
SIDE = 4096
ZIPNN_NAMES = {"BF16": "bfloat16", "F32": "float32", "F16": "float16", "F8_E4M3": "float8_e4m3fn"}
COLUMNS = ("data", "bale %", "zipnn %", "compress MB/s", "zipnn", "ratio", "decompress MB/s", "zipnn", "ratio")
SCALING = ("data", "bale, compress", "zipnn", "bale, decompress", "zipnn", "free")
FREE = 1.8

_out = np.zeros(8 * CHUNK, np.uint8)

Arrays = list[np.ndarray[Any, Any]]
Work = list[Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="checkpoints to measure instead of synthetic weights")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each set (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=256, help="size of the BF16 set (%(default)s)")
    parser.add_argument("--piece", type=int, help="bytes that ZipNN gets at a time (a tensor)")
    parser.add_argument("--two-threads", action="store_true", help="measure two threads against one")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    if options.files:
        sets: Iterable[tuple[str, str, Arrays]] = (item for file in options.files for item in from_file(file))
    else:
        sets = synthetic(options.megabytes)
    if options.two_threads:
        show(SCALING, (scale(*item, options.rounds) for item in sets), options.markdown)
    else:
        show(COLUMNS, (measure(*item, options.rounds, options.piece) for item in sets), options.markdown)


def synthetic(megabytes: int) -> Iterator[tuple[str, str, Arrays]]:
    import torch

    generator = np.random.default_rng(1)
    count = max(1, megabytes * 2**20 // (2 * SIDE * SIDE))
    matrices = []
    for _ in range(count):
        scales = np.exp(generator.normal(-3.5, 0.35, (SIDE, 1)).astype(np.float32))
        matrices.append(generator.standard_normal((SIDE, SIDE), np.float32) * scales)
    few = matrices[: max(1, count // 4)]
    yield "BF16", "synthetic BF16", [bits(torch.from_numpy(matrix).bfloat16()) for matrix in matrices]
    del matrices
    yield "F32", "synthetic F32", few
    yield "F16", "synthetic F16", [matrix.astype(np.float16) for matrix in few]
    yield "F8_E4M3", "synthetic F8_E4M3", [bits(torch.from_numpy(matrix * 8).to(torch.float8_e4m3fn)) for matrix in few]


def from_file(path: Path) -> Iterator[tuple[str, str, Arrays]]:
    import torch
    from safetensors.torch import load_file

    load = load_file if path.suffix == ".safetensors" else partial(torch.load, weights_only=True, map_location="cpu")
    loaded = load(path)
    names = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3"}
    by_dtype: dict[str, list[torch.Tensor]] = {}
    for tensor in loaded.values():
        if tensor.dtype in names:
            by_dtype.setdefault(names[tensor.dtype], []).append(tensor.contiguous())
    for dtype, tensors in by_dtype.items():
        yield dtype, f"{path.name} {dtype}", [bits(tensor) for tensor in tensors]
        if dtype == "F32":
            yield "BF16", f"{path.name} cast to BF16", [bits(tensor.bfloat16()) for tensor in tensors]


def bits(tensor: Any) -> np.ndarray[Any, Any]:
    import torch

    if tensor.dtype in (torch.float32, torch.float16):
        found: np.ndarray[Any, Any] = tensor.numpy()
    else:
        found = tensor.view(torch.uint16 if tensor.element_size() == 2 else torch.uint8).numpy()
    return found


def measure(dtype: str, title: str, arrays: Arrays, rounds: int, piece: int | None) -> tuple[str, ...]:
    """One row of the table: both codecs over all arrays, in turns; the first round warms up and is not counted."""
    total = sum(array.nbytes for array in arrays)
    turns = []
    for _ in range(rounds + 1):
        ours, theirs = np.zeros(3), np.zeros(3)
        for array in arrays:
            ours += bale_once(dtype, array)
            theirs += zipnn_once(dtype, array, piece)
        turns.append((ours, theirs))
    del turns[0]
    size, peer_size = (turns[0][who][0] for who in (0, 1))
    cells = [title, f"{100 * size / total:.2f}", f"{100 * peer_size / total:.2f}"]
    for column in (1, 2):
        cells += [f"{median(total / 1e6 / turn[who][column] for turn in turns):.0f}" for who in (0, 1)]
        cells += [f"{median(theirs[column] / ours[column] for ours, theirs in turns):.2f}"]
    return tuple(cells)


def bale_once(dtype: str, array: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Stored bytes, and CPU seconds to compress and to decompress."""
    from bale.compressors.base import Values
    from bale.compressors.lossless.codec import Lossless
    from bale.spec import TensorSpec

    codec = Lossless()
    flat = array.reshape(-1)
    size, encoding, decoding = 0, 0.0, 0.0
    out = _out.view(flat.dtype)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        spec = TensorSpec(dtype, chunk.shape)
        data, seconds = timed(partial(codec.encode, Values(spec, chunk)))
        encoding += seconds
        decoded, seconds = timed(partial(codec.decode, data, spec, None, out[: spec.elements]))
        decoding += seconds
        size += len(data)
        assert np.array_equal(decoded.view(np.uint8), chunk.view(np.uint8))
    return size, encoding, decoding


def zipnn_once(dtype: str, array: np.ndarray[Any, Any], piece: int | None) -> tuple[float, float, float]:
    """Stored bytes, and CPU seconds to compress and to decompress."""
    import zipnn

    codec = zipnn.ZipNN(bytearray_dtype=ZIPNN_NAMES[dtype], threads=1)
    plain = array.tobytes()
    size, encoding, decoding = 0, 0.0, 0.0
    for start in range(0, len(plain), piece or len(plain)):
        part = plain[start : start + (piece or len(plain))]
        copy = bytearray(part)  # It may change its input in place.
        data, seconds = timed(partial(codec.compress, copy))
        encoding += seconds
        size += len(data)
        decoded, seconds = timed(partial(codec.decompress, bytes(bytearray(data))))
        decoding += seconds
        assert bytes(decoded) == part
    return size, encoding, decoding


def scale(dtype: str, title: str, arrays: Arrays, rounds: int) -> tuple[str, ...]:
    """One row of the table of two threads: medians of the ratios within a round."""
    works = (*bale_work(dtype, arrays), *zipnn_work(dtype, arrays))
    data = bytes(1 << 26)
    digest: Work = [lambda: hashlib.sha256(data)] * 4
    found: list[list[float]] = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(10 * rounds):
            free = [walls(pool, digest, digest)]
            ratios = [walls(pool, *work) for work in works]
            free.append(walls(pool, digest, digest))
            if number and min(free) >= FREE:
                found.append([*ratios, min(free)])
            if len(found) == rounds:
                break
    if not found:
        return (title, *["the machine is busy"] * 5)
    ours, back, theirs, their_back, free_threads = map(median, zip(*found, strict=True))
    return (title, *(f"{ratio:.2f}" for ratio in (ours, theirs, back, their_back, free_threads)))


def walls(pool: ThreadPoolExecutor, alone: Work, together: Work) -> float:
    """Wall time of doing all in one thread, divided by that of two threads which do half of it each."""
    start = time.perf_counter()
    pool.submit(in_turn, alone).result()
    one = time.perf_counter() - start
    start = time.perf_counter()
    half = (len(together) + 1) // 2
    for future in [pool.submit(in_turn, part) for part in (together[:half], together[half:])]:
        future.result()
    return one / (time.perf_counter() - start)


def in_turn(work: Work) -> None:
    for step in work:
        step()


def bale_work(dtype: str, arrays: Arrays) -> list[tuple[Work, Work]]:
    """Compressing and decompressing, for one thread and for two."""
    from bale.compressors.base import Values
    from bale.compressors.lossless.codec import Lossless
    from bale.spec import TensorSpec

    codec = Lossless()
    outs = threading.local()
    flats = [array.reshape(-1) for array in arrays]
    chunks = [flat[start : start + CHUNK] for flat in flats for start in range(0, flat.size, CHUNK)]
    values = [Values(TensorSpec(dtype, chunk.shape), chunk) for chunk in chunks]
    coded = [bytes(codec.encode(each)) for each in values]

    def decode(data: bytes, spec: TensorSpec) -> None:
        if not hasattr(outs, "out"):
            outs.out = np.zeros(8 * CHUNK, np.uint8)
        codec.decode(memoryview(data), spec, None, outs.out.view(spec.storage)[: spec.elements])

    encoding: Work = [partial(codec.encode, each) for each in values]
    decoding: Work = [partial(decode, data, each.spec) for data, each in zip(coded, values, strict=True)]
    return [(encoding, encoding), (decoding, decoding)]


def zipnn_work(dtype: str, arrays: Arrays) -> list[tuple[Work, Work]]:
    """Compressing and decompressing, for one thread and for ZipNN's own two."""
    import zipnn

    one, two = (zipnn.ZipNN(bytearray_dtype=ZIPNN_NAMES[dtype], threads=threads) for threads in (1, 2))
    plain = [array.tobytes() for array in arrays]
    coded = [bytes(one.compress(bytearray(data))) for data in plain]

    def compress(codec: Any) -> None:
        for data in plain:
            codec.compress(bytearray(data))  # It may change its input in place.

    def decompress(codec: Any) -> None:
        for data in coded:
            codec.decompress(data)

    return [([partial(work, one)], [partial(work, two)]) for work in (compress, decompress)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def show(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], markdown: bool) -> None:
    if markdown:
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)
        return
    widths = [max(24 if number == 0 else 6, len(title)) for number, title in enumerate(columns)]
    for row in chain((columns,), rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


if __name__ == "__main__":
    main()
