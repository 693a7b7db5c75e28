"""The order-0 floor of tensors, against entropies computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.engine.entropy_floor import Floor, Histograms, checkpoint_floors
from bale.engine.run import Run
from bale.errors import ArchiveError
from bale.io.sources.open import open_checkpoint
from bale.planning.decide import make_plan
from bale.planning.recipe import make_recipe
from bale.spec import DTYPES, TensorSpec
from tests.making import PORTABLE, Raw, bf16, random_raw, weights, write

ONE, TWO, MINUS_ONE = 0x3F80, 0x4000, 0xBF80  # BF16: exponents 127, 128 and 127


def bits(dtype: str, words: list[int], width: int) -> float:
    histograms = Histograms(TensorSpec(dtype, (len(words),)))
    histograms.add(np.array(words, f"<u{width}"))
    return histograms.bits


@pytest.mark.parametrize(
    ("dtype", "words", "width", "expected"),
    [
        ("BF16", [ONE] * 8, 2, 0),
        ("BF16", [ONE, TWO] * 4, 2, 8),  # the exponent is one bit, the rest nothing
        ("BF16", [ONE, MINUS_ONE] * 4, 2, 8),  # the sign stands with the mantissa
        ("BF16", [ONE, TWO, MINUS_ONE, 0xC000] * 2, 2, 16),  # one bit in either field
        ("BF16", [ONE, ONE, ONE, TWO], 2, 3 * math.log2(4 / 3) + 2),
        ("F32", [ONE << 16, TWO << 16] * 4, 4, 8),
        ("F32", [0x3F80_0001, 0x3F80_0100] * 4, 4, 16),  # one bit in each of the two low bytes
        ("F16", [0x3C00, 0x4000, 0x3C01, 0x4001] * 2, 2, 16),
        ("F64", [0, 0x0101_0101_0101_0101] * 2, 8, 8 * 4),
        ("I32", [0, 1, 2, 3], 4, 8),
        ("U8", [0, 1, 2, 3], 1, 8),
        ("F8_E4M3", list(range(256)), 1, 8 * 256),
        ("BOOL", [0, 1], 1, 2),
    ],
)
def test_by_hand(dtype: str, words: list[int], width: int, expected: float) -> None:
    assert bits(dtype, words, width) == pytest.approx(expected, abs=1e-12)


def test_both_halves_of_a_complex_number_are_counted_together() -> None:
    histograms = Histograms(TensorSpec("C64", (4,)))
    histograms.add(np.array([1 + 2j] * 4, "<c8"))
    assert histograms.bits == 8  # eight words with exponents of one bit


def test_nothing_takes_nothing() -> None:
    assert Histograms(TensorSpec("F32", (0,))).bits == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_add_up_and_nothing_exceeds_its_bytes(dtype: str) -> None:
    raw = random_raw(dtype, (300_000,), seed=5)  # longer than a block
    spec = TensorSpec(dtype, (300_000,))
    array = np.frombuffer(raw.data, spec.storage)
    whole, pieces = Histograms(spec), Histograms(spec)
    whole.add(array)
    for start in range(0, array.size, 70_001):
        pieces.add(array[start : start + 70_001])
    assert whole.bits == pieces.bits
    assert 0 < whole.bits <= 8 * len(raw.data)


@pytest.mark.parametrize("dtype", PORTABLE)
def test_of_a_file_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    raw = random_raw(dtype, (64, 30))
    source = write(tmp_path / "m.safetensors", {"w": raw})
    counted = Histograms(TensorSpec(dtype, (64, 30)))
    counted.add(np.frombuffer(raw.data, TensorSpec(dtype, (64, 30)).storage))
    (row,) = bale.inspect(source, floor=True)["tensors"]
    assert row["floor_bits_per_weight"] == pytest.approx(counted.bits / (64 * 30))
    assert row["floor_bytes"] == math.ceil(round(counted.bits / 8, 6))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    w = weights(128, 96)
    tensors = {"w": w, "copy": w.copy(), "half": bf16(weights(64, 64, seed=1)), "empty": np.empty((0, 4), "<f4")}
    return write(tmp_path / "m.safetensors", tensors)


def test_a_checkpoint_and_its_archive_have_the_same_floor(source: Path) -> None:
    bale.compress(source)
    plain, stored = bale.inspect(source, floor=True), bale.inspect(f"{source}.bale", floor=True)
    for one, other in zip(plain["tensors"], stored["tensors"], strict=True):
        for key in ("name", "same_as", "floor_bytes", "floor_bits_per_weight"):
            assert one[key] == other[key]
    for key in ("floor_bytes", "floor_bits_per_weight"):
        assert plain["totals"][key] == stored["totals"][key]


def test_what_is_equal_counts_once(source: Path) -> None:
    document = bale.inspect(source, floor=True)
    rows = {row["name"]: row for row in document["tensors"]}
    assert (rows["copy"]["same_as"], rows["copy"]["floor_bytes"]) == ("w", 0)
    assert (rows["empty"]["floor_bytes"], rows["empty"]["floor_bits_per_weight"]) == (0, None)
    whole = rows["w"]["floor_bytes"] + rows["half"]["floor_bytes"]
    assert document["totals"]["floor_bytes"] == pytest.approx(whole, abs=1)
    assert document["totals"]["original_bytes"] == source.stat().st_size


def test_lossless_archives_come_near_it(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": bf16(weights(1024, 1024))})
    bale.compress(source)
    (row,) = bale.inspect(f"{source}.bale", floor=True)["tensors"]
    assert row["floor_bytes"] <= row["stored_bytes"] <= 1.02 * row["floor_bytes"]


def test_of_loss_it_is_the_floor_of_what_comes_back(source: Path) -> None:
    bale.compress(source, f"{source}.bale", pipeline="int4")
    before = bale.inspect(source, floor=True)["totals"]["floor_bytes"]
    assert bale.inspect(f"{source}.bale", floor=True)["totals"]["floor_bytes"] < before


def test_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in (1, 2):
        write(folder / f"part{number}.safetensors", {f"w{number}": weights(32, 32, seed=number)})
    bale.compress(folder)
    plain = bale.inspect(folder, floor=True)
    assert [row["floor_bytes"] > 0 for row in plain["tensors"]] == [True, True]
    assert plain["totals"]["floor_bytes"] == bale.inspect(f"{folder}.bale", floor=True)["totals"]["floor_bytes"]


def test_big_endian_is_counted_as_it_is_stored(tmp_path: Path) -> None:
    """Bytes are swapped as they are read, else the exponents would be taken for mantissas."""
    values = np.array([1, 2] * 4, ">f4")
    path = write(tmp_path / "m.safetensors", {"w": Raw("F32", (8,), values.tobytes())})
    checkpoint = open_checkpoint(path)
    swapped = replace(checkpoint, units=(checkpoint.units[0]._replace(swapped=True),))
    plan = make_plan([swapped.units], make_recipe(None, (), None, False)).files[0]
    with Run(1) as run:
        assert checkpoint_floors(swapped, plan, run) == [Floor(8)]
        assert checkpoint_floors(checkpoint, plan, run) == [Floor(16)]  # two bytes of what is then a mantissa


def test_damage_is_found(source: Path) -> None:
    bale.compress(source)
    archive = Path(f"{source}.bale")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    assert bale.inspect(archive)["tensors"]
    with pytest.raises(ArchiveError):
        bale.inspect(archive, floor=True)


def test_progress_is_told(source: Path) -> None:
    told: list[tuple[str, int]] = []
    bale.inspect(source, floor=True, progress=lambda name, done: told.append((name, done)))
    assert ("w", 128 * 96 * 4) in told
