"""Peers as whole processes beside bale's: zstd, ZipNN, and the quantizers of bench/peers/whole.py."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.common import Limit, median_cost, page, table
from bench.peers.venvs import versions
from bench.programs.measuring import LOSSLESS, THREADS, VERBS, File, Key, Measured, Peer

ZSTD, ZIPNN = "zstd", "ZipNN"
TRELLIS = "trellis:bits=4"

ZSTD_WALL = {"compress": Limit(1.3), "compress --no-verify": Limit(0.8), "decompress": Limit(1.0)}
"""Most wall time of the lossless codec in times of zstd's."""

Q8, Q4 = "Q8_0", "Q4_K"
QUANTIZERS = {
    Q8: 1e12,
    "torchao-int8": 64e6,
    "torchao-int4": 64e6,
    "NF4": 16e6,
    Q4: 64e6,
    "HQQ": 4e6,
    "nncodec": 4e6,
}
"""Peers, and the most weights that each gets."""

SELDOM = ("NF4", "HQQ", "nncodec", "torchao-int8", "torchao-int4")
TO_Q8, TO_Q4 = Limit(2), Limit(1)
PACKAGES = ("pywhispercpp", "bitsandbytes", "torchao", "hqq", "nncodec")

LOSSLESS_TEXT = (
    "**Lossless peers**, in turns with the first row of the tables above. `zstd` runs with the same number of threads, "
    "so does ZipNN ({zipnn}), which as its own script does reads a whole file, codes it and writes it; its imports, of "
    "torch among others, are in its seconds, and beside them stand those of its codec alone. "
    "bale's seconds include the SHA-256 of the source, digests of everything and, without `--no-verify`, reading the "
    "archive back. *Wall / zstd* is the median of the ratios within a round."
)
LOSSY_TEXT = (
    "**Lossy peers**, in turns with bale's rows: processes that read the safetensors file, quantize every matrix and "
    "write codes and scales to a file. Neither imports nor files are what is compared, so beside the whole process "
    "stand the CPU and wall seconds of the *quantizer alone*, measured within it, all for 100 million weights. Q8_0 "
    "and Q4_K are ggml's, by two threads, without weights of importance; IQ4_K is not in ggml. torchao's are weight "
    "only, 8 bits with a scale a row and 4 bits in groups of 64 (which it stores as bytes on a CPU). NF4 is that of "
    "bitsandbytes in blocks of 64 with double quantization, HQQ has 4 bits in groups of 64, nncodec runs at QP -32. "
    "None reads back what it wrote, nor codes by entropy, but nncodec; none but ggml's ran more than once. *Part* is "
    "how much of the file was taken, from its beginning; seconds are scaled to all of it, but for the imports. "
    "*CPU / peer* is bale's CPU time, of the whole process, in times of that of Q8_0's whole process, or in times of "
    "Q4_K's quantizer alone. Versions: {versions}."
)


def zstd_programs(file: File) -> dict[Key, tuple[str | Path, ...]]:
    """zstd as a program, if it is there."""
    zstd = shutil.which("zstd")
    if zstd is None:
        return {}
    frame = file.archive(ZSTD)
    return {
        ("compress", ZSTD): (zstd, "-3", f"-T{THREADS}", "-q", "-f", file.path, "-o", frame),
        ("decompress", ZSTD): (zstd, "-d", "-q", "-f", frame, "-o", file.folder / "back"),
    }


def zipnn_peers(file: File, python: Path) -> dict[Key, Peer]:
    made, words = file.archive(ZIPNN), ("--dtype", file.dtype)
    return {
        ("compress", ZIPNN): Peer("zipnn", python, file.path, made, file.weights, words),
        ("decompress", ZIPNN): Peer("unzipnn", python, made, file.folder / "back", file.weights, words),
    }


def quantizer_peers(file: File, python: Path, most: Mapping[str, float]) -> dict[Key, Peer]:
    """Each by its name, with the most weights that it gets."""
    return {
        ("compress", name): Peer(
            name,
            python,
            file.path,
            file.archive(name),
            file.weights,
            () if weights >= file.weights else ("--most", str(weights)),
        )
        for name, weights in most.items()
    }


def lossless(files: Mapping[str, Measured], python: Path) -> str:
    return page(LOSSLESS_TEXT.format(zipnn=versions(python, ["zipnn"])), lossless_table(files))


def lossless_table(files: Mapping[str, Measured]) -> str:
    rows = [
        lossless_row(title, found, key)
        for title, found in files.items()
        for verb in ("compress", "decompress")
        for key in sorted(found.costs, key=lambda each: each[1] != LOSSLESS)
        if key[1] in (LOSSLESS, ZSTD, ZIPNN) and key[0].split()[0] == verb
    ]
    head = ("file", "process", "wall, s", "CPU, s", "GB/s", "size, %", "codec alone: wall, s", "CPU, s")
    return table((*head, "wall / zstd", "limit"), rows, left=2)


def lossless_row(title: str, found: Measured, key: Key) -> list[str]:
    verb, name = key
    process = {ZSTD: f"zstd {'-d' if verb == 'decompress' else f'-3 -T{THREADS}'}", ZIPNN: f"{ZIPNN}, {verb}"}
    cost = median_cost(found.costs[key])
    cells = [f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{found.rate(cost)}", f"{found.size(name):.2f}"]
    alone = median_cost(found.peers[key].coding) if key in found.peers else None
    cells += [f"{alone.wall:.2f}", f"{alone.cpu:.2f}"] if alone else ["-", "-"]
    peer = (verb.split()[0], ZSTD)
    if peer in found.costs and key != peer:
        ratio = found.wall_ratio(key, peer)
        cells += [f"{ratio:.2f}", ZSTD_WALL[verb].cell(ratio) if name == LOSSLESS else "-"]
    else:
        cells += ["-", "-"]
    return [title, f"`{process.get(name, f'bale {verb}')}`", *cells]


def lossy(files: Mapping[str, Measured], python: Path) -> str:
    return page(LOSSY_TEXT.format(versions=versions(python, PACKAGES)), lossy_table(files))


def lossy_table(files: Mapping[str, Measured]) -> str:
    ours = [(verb, name) for name in ("int8", "int4", "nf4", TRELLIS) for verb in VERBS[:2]]
    rows = []
    for title, found in files.items():
        for key in (*ours, *(("compress", name) for name in QUANTIZERS)):
            rows.append([title, *lossy_cells(found, key)])
    head = ("file", "process", "CPU, s", "wall, s", "GB/s", "size, %", "alone: CPU, s", "wall, s", "part, %")
    return table((*head, "CPU / peer", "limit"), rows, left=2)


def lossy_cells(found: Measured, key: Key) -> list[str]:
    verb, name = key
    whole = median_cost(found.costs[key])
    cost = found.per_weights(whole)
    cells = [f"{cost.cpu:.2f}", f"{cost.wall:.2f}", f"{found.rate(whole)}", f"{found.size(name):.1f}"]
    if peer := found.peers.get(key):
        alone = found.per_weights(median_cost(peer.coding))
        return [name, *cells, f"{alone.cpu:.2f}", f"{alone.wall:.2f}", f"{100 * peer.share:.0f}", "-", "-"]
    cells += ["-", "-", "100"]
    title = f"`bale {verb} -p {name}`"
    if name == "int8":
        ratio = found.cpu_ratio(key, ("compress", Q8))
        return [title, *cells, f"{ratio:.2f} x {Q8}", TO_Q8.cell(ratio)]
    if name == TRELLIS:
        ratio = found.cpu_ratio(key, ("compress", Q4), alone=True)
        return [title, *cells, f"{ratio:.2f} x {Q4}, alone", TO_Q4.cell(ratio)]
    return [title, *cells, "-", "-"]
