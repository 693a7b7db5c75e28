from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import bale
from bale.compressors.base import Values
from bale.compressors.chunks import encode_chunk
from bale.compressors.lossless.codec import Lossless
from bale.compressors.lossless.words import Words, words_in
from bale.spec import TensorSpec
from tests.making import weights, write

OF = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


def floats(of, count=40_000):
    """Weights whose lower halves are as noisy as in models: F64 are F32 at heart."""
    return (0.05 * weights(count, seed=1)).astype(OF[of]).view(np.uint8)


def as_bytes(array):
    return Values(TensorSpec("U8", array.shape), array)


def test_by_hand():
    """What lies around the words stands before them."""
    data = np.frombuffer(b"ab" + np.float16([1, 1, 1]).tobytes() + b"c", np.uint8)
    coded = Lossless().encode(Values(TensorSpec("F16", (3,)), np.float16([1, 1, 1])))
    assert bytes(Words(of="F16", phase=2).encode(as_bytes(data))) == b"abc" + bytes(coded)


@pytest.mark.parametrize("phase", range(8))
@pytest.mark.parametrize("of", OF)
def test_they_are_found(of, phase):
    data = np.concatenate([np.arange(phase, dtype=np.uint8), floats(of)])
    found = words_in(data, "fast")
    assert found is not None
    assert {of, found.of} <= {"F16", "BF16"} or found.of == of  # the fast planes of these two are nearly as small
    assert found.phase == phase % TensorSpec(of, ()).nbytes
    assert words_in(data, "max") == Words(found.of, found.phase, "max")


@pytest.mark.parametrize("of", OF)
def test_they_take_as_much_as_floats_that_are_known(of):
    data = floats(of, 1 << 18)
    known = len(Lossless().encode(Values(TensorSpec(of, (1 << 18,)), data.view(TensorSpec(of, ()).storage))))
    chain, coded = encode_chunk(as_bytes(data), "lossless")
    assert chain.startswith("words")
    assert len(coded) <= 1.001 * known


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4095, 50_000])
def test_bytes_that_are_none_are_left_as_they_are(size):
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    text = np.frombuffer((b"Nothing but letters, and of those not many. " * 1200)[:size], np.uint8)
    for data in (noise, text, np.zeros(size, np.uint8)):
        assert words_in(data, "fast") is None


def test_an_opaque_file_is_as_small_as_one_with_a_reader(tmp_path: Path):
    tensors = {f"t{number}": 0.05 * weights(300, 500, seed=number) for number in range(4)}
    known = bale.compress(write(tmp_path / "m.safetensors", tensors), tmp_path / "known.bale")
    (tmp_path / "m.dat").write_bytes(b"head:" + b"".join(each.tobytes() for each in tensors.values()))
    opaque = bale.compress(tmp_path / "m.dat", tmp_path / "opaque.bale")
    assert opaque.files[0].kind == "opaque"
    assert opaque.stored_bytes <= 1.003 * known.stored_bytes
    bale.decompress(tmp_path / "opaque.bale", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "m.dat").read_bytes()
