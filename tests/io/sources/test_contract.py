"""What every reader keeps: each byte belongs to one unit, and no file makes it crash or take much memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import open_checkpoint, read_checkpoint
from tests.io.in_memory import InMemory
from tests.io.reading import named_values, opened
from tests.io.sources.samples import BIAS, SAMPLES, WEIGHTS, Sample

FEW, MANY = 48, pytest.param(2_000, marks=pytest.mark.soak)  # places of a structure that are tried
MEMORY = 40_000_000  # bytes that a small file may take to be read

pytestmark = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
tries = pytest.mark.parametrize("tried", [FEW, MANY])


@pytest.fixture(autouse=True)
def what_lies_beside(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in sample.beside().items():
        (tmp_path / name).write_bytes(data)


def read(sample: Sample, data: bytes) -> Checkpoint | None:
    """What a file with these bytes is; None for one that is refused, with one line."""
    try:
        found = read_checkpoint(Path(sample.name), InMemory(data))
    except SourceError as problem:
        refusal = str(problem)
    else:
        return _checked(found, data)
    assert "\n" not in refusal
    return None


def _checked(found: Checkpoint, data: bytes) -> Checkpoint:
    at = 0
    for unit in found.units:
        assert at <= unit.start <= unit.end <= len(data)
        assert all(view.reach <= 8 * unit.spec.nbytes for view in unit.views)
        at = unit.end
    return found


def structure(sample: Sample, data: bytes, tried: int) -> list[int]:
    """Some places of what lies around the tensors, the first ones among them."""
    found = read(sample, data)
    assert found is not None
    places = [at for start, size in found.skeleton_ranges() for at in range(start, start + size)]
    chosen = {*range(min(tried // 2, len(places))), *range(0, len(places), max(1, 2 * len(places) // tried))}
    return [places[number] for number in sorted(chosen)]


def file(sample: Sample, folder: Path) -> Path:
    path = folder / sample.name
    path.write_bytes(sample.make())
    return path


def test_tensors_by_name(sample: Sample, tmp_path: Path) -> None:
    checkpoint = opened(file(sample, tmp_path))
    values = named_values(checkpoint)
    assert checkpoint.kind == sample.kind
    assert {view.name for unit in checkpoint.units for view in unit.views} == set(sample.names)
    assert {value.shape for value in values.values()} == {WEIGHTS.shape, BIAS.shape}
    for value in values.values():
        assert (value == (BIAS if value.ndim == 1 else WEIGHTS)).all()


def test_the_same_bytes_come_back(sample: Sample, tmp_path: Path) -> None:
    source = file(sample, tmp_path)
    bale.compress(source, tmp_path / "m.bale")
    bale.decompress(tmp_path / "m.bale", tmp_path / f"back-{sample.name}")
    assert (tmp_path / f"back-{sample.name}").read_bytes() == source.read_bytes()


def test_lossy_values_lie_in_the_same_places(sample: Sample, tmp_path: Path) -> None:
    if not sample.is_lossy:
        pytest.skip("it is exact")
    source = file(sample, tmp_path)
    (weight,) = [name for name in sample.names if "bias" not in name]
    bale.compress(source, tmp_path / "m.bale", rules=[f"{weight}=int8"])
    bale.decompress(tmp_path / "m.bale", tmp_path / f"back-{sample.name}")
    before, after = open_checkpoint(source), open_checkpoint(tmp_path / f"back-{sample.name}")
    assert after.kind == before.kind
    assert [(unit.start, unit.spec, unit.views) for unit in after.units] == [
        (unit.start, unit.spec, unit.views) for unit in before.units
    ]
    lossy = named_values(after)[weight]
    assert 0 < np.abs(lossy - WEIGHTS).max() < 0.02


@tries
def test_a_file_that_ends_early(sample: Sample, tried: int) -> None:
    data = sample.make()
    for at in structure(sample, data, tried):
        read(sample, data[:at])


LIES = (b"\xff" * 8, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\xff" * 7 + b"\x7f", bytes(8), b"\x80")


@pytest.mark.parametrize("tried", [FEW // 2, MANY])
def test_lengths_that_lie(sample: Sample, tried: int) -> None:
    data = sample.make()
    tracemalloc.start()
    try:
        for at in structure(sample, data, tried):
            for lie in LIES:
                read(sample, (data[:at] + lie + data[at + len(lie) :])[: len(data)])
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@tries
def test_random_bytes(sample: Sample, tried: int) -> None:
    data, rng = sample.make(), np.random.default_rng(1)
    places = structure(sample, data, tried)
    for _ in range(tried):
        changed = bytearray(data)
        for at in rng.choice(places, size=int(rng.integers(1, 4))):
            changed[at] = int(rng.integers(256))
        read(sample, bytes(changed))
