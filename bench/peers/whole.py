"""Peers as whole processes, in their virtual environments: each reads a file, codes it, and writes a file.

`python -m bench.peers.whole METHOD SOURCE OUT TIMES` codes SOURCE into OUT. METHOD is `zipnn` or `unzipnn`, which take
the whole file as bytes, or a quantizer, which takes every matrix of a safetensors file and leaves the rest as it is.
TIMES gets JSON: the weights and bytes of SOURCE that were taken, which `--most` limits, and CPU and wall seconds of
reading, coding and writing (`work`), and of coding alone (`coding`): imports are in neither.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.quantizers import Array, ggml, ggml_coded, hqq_coded, nf4_coded, nf4_parts, nncodec, nncodec_coded
from bench.peers.zipnn import CHUNK, ZIPNN_NAMES

THREADS = 2
GGML = ("Q8_0", "Q4_K")
TORCHAO_GROUP = 64
QP = -32  # of nncodec: near to 4 bits for weights of language models
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}

Parts = Iterable[Any]
Encoder = Callable[[Array], Parts]


@dataclass
class Clock:
    """CPU and wall seconds that were spent within it."""

    cpu: float = 0.0
    wall: float = 0.0

    def __enter__(self) -> None:
        self._begun = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        cpu, wall = self._begun
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall


def by_ggml(name: str, pool: ThreadPoolExecutor, matrix: Array) -> Parts:
    """Blocks by two threads, as rows are shared out by llama.cpp."""
    flat = matrix.reshape(-1)
    return pool.map(partial(ggml_coded, name), [flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK)])


def by_nf4(matrix: Array) -> Parts:
    return nf4_parts(*nf4_coded(matrix))


def by_hqq(matrix: Array) -> Parts:
    codes, _, sides = hqq_coded(matrix, packed=True)
    return codes, *sides.values()


def by_torchao(config: Any, matrix: Array) -> Parts:
    """Codes, a byte each, and scales; zero points are all zero."""
    import torch
    from torchao.quantization import quantize_

    layer = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(torch.from_numpy(matrix), requires_grad=False)
    quantize_(layer, config)
    weight: Any = layer.weight
    return weight.qdata, weight.scale


def torchao_config(bits: int) -> Any:
    """Weights only: 8 bits with a scale a row, or 4 in groups; the packed 4 bits of torchao want a GPU."""
    import torch
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    if bits == 8:
        return Int8WeightOnlyConfig()
    return IntxWeightOnlyConfig(weight_dtype=vars(torch)["int4"], granularity=PerGroup(TORCHAO_GROUP))


def encoder(method: str, pool: ThreadPoolExecutor) -> Encoder:
    """A quantizer, with all that it imports."""
    if method in GGML:
        ggml()
        found: Encoder = partial(by_ggml, method, pool)
    elif method == "nncodec":
        nncodec()
        found = lambda matrix: [nncodec_coded(QP, matrix)]  # noqa: E731
    elif method.startswith("torchao"):
        found = partial(by_torchao, torchao_config(int(method.removeprefix("torchao-int"))))
    else:
        found = {"NF4": by_nf4, "HQQ": by_hqq}[method]
    if method not in {"nncodec", "HQQ"}:  # their first call costs seconds of its own
        list(found(np.ones((16, 256), np.float32)))
    return found


def tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...], Array]]:
    """Dtype, shape and bytes of the tensors of a safetensors file, in the order of the file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for about in sorted(header.values(), key=lambda each: int(each["data_offsets"][0])):
            start, end = about["data_offsets"]
            file.seek(8 + size + start)
            yield about["dtype"], tuple(about["shape"]), np.fromfile(file, np.uint8, end - start)


def as_float32(dtype: str, raw: Array) -> Array:
    if dtype == "BF16":
        return (raw.view("<u2").astype("<u4") << 16).view("<f4")
    return raw.view("<f4" if dtype == "F32" else "<f2").astype(np.float32, copy=False)


def raw_bytes(part: Any) -> Any:
    """The bytes of a numpy array, a tensor of torch, or bytes."""
    if hasattr(part, "detach"):
        import torch

        part = part.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(part).cast("B")


def quantized(method: str, source: Path, out: Path, most: float) -> dict[str, Any]:
    weights, taken = 0, 0
    work, coding = Clock(), Clock()
    with ThreadPoolExecutor(THREADS) as pool, out.open("wb") as file:
        encode = encoder(method, pool)
        with work:
            for dtype, shape, raw in tensors(source):
                if weights >= most:
                    break
                if dtype in WIDTHS and len(shape) == 2:
                    rows = min(shape[0], ceil((most - weights) / shape[1]) if most < np.inf else shape[0])
                    shape, raw = (rows, shape[1]), raw[: rows * shape[1] * WIDTHS[dtype]]
                    matrix = as_float32(dtype, raw).reshape(shape)
                    with coding:
                        parts = list(encode(matrix))
                else:
                    parts = [raw]
                for part in parts:
                    file.write(raw_bytes(part))
                weights, taken = weights + prod(shape), taken + raw.nbytes
    return {"weights": weights, "bytes": taken, "work": asdict(work), "coding": asdict(coding)}


def zipped(method: str, source: Path, out: Path, dtype: str) -> dict[str, Any]:
    """A file through ZipNN, whole, as its own script does it with two threads."""
    import zipnn

    codec = zipnn.ZipNN(bytearray_dtype=ZIPNN_NAMES[dtype], threads=THREADS)
    work, coding = Clock(), Clock()
    with work:
        data = bytearray(source.read_bytes())
        size = len(data)
        with coding:
            result = codec.compress(data) if method == "zipnn" else codec.decompress(bytes(data))
        out.write_bytes(result)
    return {"weights": 0, "bytes": size, "work": asdict(work), "coding": asdict(coding)}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("method")
    made.add_argument("source", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("times", type=Path)
    made.add_argument("--most", type=float, default=np.inf, help="weights that are taken at most, but for a row")
    made.add_argument("--dtype", default="BF16", help="of the words that ZipNN takes apart (%(default)s)")
    options = made.parse_args()
    if options.method.endswith("zipnn"):
        found = zipped(options.method, options.source, options.out, options.dtype)
    else:
        found = quantized(options.method, options.source, options.out, options.most)
    options.times.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
