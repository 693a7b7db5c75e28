"""Quantizers of other projects behind one interface; run in their venv.

`python -m bench.peers.quantizers SOURCE FOLDER METHOD...` prints, as JSON, the bytes that each method takes for each
tensor of SOURCE, a safetensors file of float32, and writes the values that come back to FOLDER/METHOD.safetensors.
Bytes are those of the format: codes, scales, zero points and padding; for nncodec the length of its stream.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from safetensors.numpy import load_file, save_file

Array = np.ndarray[Any, np.dtype[Any]]
Quantizer = Callable[[Array], tuple[int, Array]]
HQQ_GROUP = 64


def padded(tensor: Array, block: int) -> Array:
    """The flat tensor, filled up with zeros to whole blocks."""
    return np.pad(tensor.reshape(-1), (0, -tensor.size % block))


@cache
def ggml() -> ctypes.CDLL:
    """The ggml library, whose quantizers gguf-py lacks; pywhispercpp brings it."""
    spec = find_spec("_pywhispercpp")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    (path, *_) = sorted([*folder.glob("libggml-base*"), *folder.glob("*pywhispercpp*/**/libggml-base*")])
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    numbers = [ctypes.c_int64] * 3  # where it starts, rows, elements of a row
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
    return library


def ggml_coded(name: str, tensor: Array) -> Array:
    """The blocks of ggml's own quantizer, without weights of importance."""
    import gguf

    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    flat = padded(tensor, block)
    coded = np.zeros(flat.size // block * size, np.uint8)
    written = ggml().ggml_quantize_chunk(
        int(kind), flat.ctypes.data, coded.ctypes.data, 0, flat.size // block, block, None
    )
    if written != coded.size:
        sys.exit(f"ggml wrote {written} bytes of {name}, not {coded.size}")
    return coded


def by_ggml(name: str, tensor: Array) -> tuple[int, Array]:
    """ggml's blocks, decoded by gguf-py."""
    import gguf

    coded = ggml_coded(name, tensor)
    return coded.size, gguf.dequantize(coded, gguf.GGMLQuantizationType[name])


def nf4_coded(tensor: Array) -> tuple[Any, Any]:
    """Codes and state of NF4 in blocks of 64, with scales in 8 bits."""
    import torch
    from bitsandbytes import functional

    flat = torch.from_numpy(tensor.reshape(-1))
    found: tuple[Any, Any] = functional.quantize_4bit(flat, blocksize=64, compress_statistics=True, quant_type="nf4")
    return found


def nf4_parts(codes: Any, state: Any) -> tuple[Any, ...]:
    """What must be stored: codes, scales, the scales' own scales, and their mean."""
    return codes, state.absmax, state.state2.absmax, state.offset


def by_bitsandbytes(tensor: Array) -> tuple[int, Array]:
    """NF4 in blocks of 64, whose scales are 8-bit in blocks of 256: the last of them, and their mean, are float32."""
    from bitsandbytes import functional

    codes, state = nf4_coded(tensor)
    return sum(part.nbytes for part in nf4_parts(codes, state)), functional.dequantize_4bit(codes, state).numpy()


def hqq_coded(tensor: Array, packed: bool) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Codes, what HQQ tells of them, and scales and zero points as float16; in groups of 64."""
    import torch
    from hqq.core.quantize import Quantizer as Hqq

    flat = torch.from_numpy(padded(tensor, HQQ_GROUP)).reshape(-1, HQQ_GROUP)
    how = {"nbits": 4, "group_size": HQQ_GROUP, "axis": 1, "device": "cpu", "compute_dtype": torch.float32}
    codes, meta = Hqq.quantize(flat, bitpack=packed, **how)
    return codes, meta, {key: meta[key].half() for key in ("scale", "zero")}


def by_hqq(tensor: Array) -> tuple[int, Array]:
    """4 bits in groups of 64, with a scale and a zero point that are rounded to float16."""
    from hqq.core.quantize import Quantizer as Hqq

    codes, meta, sides = hqq_coded(tensor, packed=False)
    values = Hqq.dequantize(codes, meta | {key: side.float() for key, side in sides.items()}).numpy()
    return codes.numel() // 2 + sum(side.nbytes for side in sides.values()), values


def nncodec() -> Any:
    """The part of nncodec that codes tensors."""
    for name in ("torchvision", "torchvision.models", "torchvision.transforms"):
        sys.modules.setdefault(name, MagicMock())  # wanted by its training examples; needs the torch it was built for
    from nncodec import tensor as codec

    return codec


def nncodec_coded(qp: int, tensor: Array) -> bytes:
    """The stream of dependent quantization and CABAC, at one step for all tensors."""
    with TemporaryDirectory() as folder:  # where it leaves a copy of the stream
        stream: bytes = nncodec().encode(tensor, {"qp": qp, "use_dq": True, "results": folder})
    return stream


def by_nncodec(qp: int, tensor: Array) -> tuple[int, Array]:
    """That stream, decoded."""
    stream = nncodec_coded(qp, tensor)
    return len(stream), np.asarray(nncodec().decode(stream))


def quantizer(method: str) -> Quantizer:
    name, _, setting = method.partition(":qp=")
    if name == "nncodec":
        return partial(by_nncodec, int(setting))
    return {"NF4": by_bitsandbytes, "HQQ": by_hqq}.get(name) or partial(by_ggml, name)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("source", type=Path)
    made.add_argument("folder", type=Path)
    made.add_argument("methods", nargs="+")
    options = made.parse_args()
    tensors = load_file(options.source)
    found: dict[str, dict[str, int]] = {}
    for method in options.methods:
        quantize, values = quantizer(method), {}
        found[method] = {}
        for name, tensor in tensors.items():
            found[method][name], decoded = quantize(tensor)
            values[name] = decoded.reshape(-1)[: tensor.size].reshape(tensor.shape).astype(np.float32)
        save_file(values, options.folder / f"{method}.safetensors")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
