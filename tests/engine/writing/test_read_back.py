"""What is written is what comes back: buffers are not used too early, and nothing is taken for sound unseen."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.compressors.conditional.exact import Exact
from bale.compressors.lossless.codec import Lossless
from bale.compressors.serializers.bitpack import Bitpack
from bale.compressors.serializers.huffman import Huffman
from bale.compressors.serializers.rans import Rans
from bale.compressors.trellis.codec import Trellis
from bale.errors import OutputError
from tests.making import names_in, weights, write


def cut(array: np.ndarray) -> np.ndarray:
    """Float32 values of which the lower half of the bits is zero, as a cast from BF16 leaves them."""
    return (array.view("<u4") & np.uint32(0xFFFF0000)).view("<f4")


@pytest.mark.parametrize("rule", ["*=tucker:error=0.05", "*=tucker:error=0.05/exact"])
def test_what_waits_is_not_overwritten_by_the_next_tensor(tmp_path: Path, rule: str) -> None:
    """Noise of which nothing can be cut, so that a factor is the tensor itself."""
    kernels = {f"k{n:02}": cut(weights(12, 10, 3, 3, seed=n)) for n in range(30)}
    source, out = write(tmp_path / "m.safetensors", kernels), tmp_path / "m.bale"
    bale.compress(source, out, rules=[rule], verify=False, threads=2)
    bale.verify(out)
    with bale.open(out) as tensors:
        for name, kernel in kernels.items():
            assert np.linalg.norm(tensors[name] - kernel) <= 0.05 * np.linalg.norm(kernel)


def places(archive: Path) -> dict[str, int]:
    """A byte of each kind that an archive has."""
    data = archive.read_bytes()
    (room,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + room])
    chunks = [each["data_offsets"] for name, each in header.items() if name.endswith(("data", "scale"))]
    middle = {name: sum(header[name]["data_offsets"]) // 2 for name in (":skeleton", ":manifest")}
    return {
        "first chunk": 8 + room + min(chunks)[0],
        "last chunk": 8 + room + max(chunks)[1] - 1,
        "skeleton": 8 + room + middle[":skeleton"],
        "manifest": 8 + room + middle[":manifest"],
        "length of the header": 0,
        "header": 8 + data[8 : 8 + room].index(b"qdata"),
        "spaces behind the header": 8 + room - 1,
    }


KINDS = [
    *("first chunk", "last chunk", "skeleton", "manifest"),
    *("length of the header", "header", "spaces behind the header"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_that_the_disk_keeps_otherwise_is_found(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Archives are the same bytes each time, so it is known what will lie where."""
    rules = ["*.weight=int4"]
    bale.compress(model, tmp_path / "sound.bale", rules=rules)
    at = places(tmp_path / "sound.bale")[kind]
    (tmp_path / "sound.bale").unlink()
    (tmp_path / "sound.bale.report.json").unlink()
    honest, hit = os.pwrite, []

    def flipping(descriptor: int, data: memoryview, offset: int) -> int:
        changed = bytearray(data)
        if offset <= at < offset + len(changed) and stat.S_ISREG(os.fstat(descriptor).st_mode):
            hit.append(offset)
            changed[at - offset] ^= 4
        return honest(descriptor, changed, offset)

    monkeypatch.setattr(os, "pwrite", flipping)
    with pytest.raises(OutputError, match="read back") as caught:
        bale.compress(model, tmp_path / "m.bale", rules=rules)
    assert hit
    assert caught.value.code == 6
    assert names_in(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("rule", "codecs"),
    [
        ("*=lossless", [Lossless]),
        ("*=int4", [Lossless, Bitpack, Huffman, Rans]),
        ("*=trellis:bits=3", [Trellis]),
        ("*=svd:rank=2", [Lossless]),
        ("*=int4/exact", [Exact]),
    ],
)
def test_a_decoder_that_gives_other_values_is_found(
    model: Path, monkeypatch: pytest.MonkeyPatch, rule: str, codecs: list[type]
) -> None:
    """The stored bytes are right; only who decodes them can see that something else comes out."""

    def wrong(honest: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def decode(*arguments: Any, **named: Any) -> np.ndarray:
            array = honest(*arguments, **named)
            if array.size:
                array.reshape(-1).view(np.uint8)[0] ^= 1
            return array

        return decode

    source = write(model.with_name("one.safetensors"), {"w": weights(96, 128, seed=7)})
    before = names_in(model.parent)
    for codec in codecs:
        monkeypatch.setattr(codec, "decode", wrong(codec.decode))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match="read back"):
        bale.compress(source, rules=[rule])
    assert names_in(model.parent) == before
