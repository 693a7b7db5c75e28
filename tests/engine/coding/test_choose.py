"""One way to code a unit and to decode it: what is written is read back by the decoder that will read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.compressors.base import Reference
from bale.compressors.pipeline import Pipeline
from bale.engine.coding.blocks import BlockCoding
from bale.engine.coding.choose import coding_of, decode_tasks
from bale.engine.coding.encoded import EncodedPart
from bale.engine.coding.exact import ExactCoding
from bale.engine.coding.stored import bytes_of
from bale.engine.coding.task import Task, Work
from bale.engine.coding.whole import WholeCoding
from bale.engine.run import Run
from bale.errors import OutputError
from bale.spec import TensorSpec
from tests.making import names_in, weights, write

LOSSLESS = Pipeline.parse("lossless")


@dataclass
class InMemory:
    """Values of a unit, without any file."""

    array: np.ndarray

    def read(self, start: int, count: int, buffer: np.ndarray) -> np.ndarray:
        buffer[:] = self.array.reshape(-1)[start : start + count].view(np.uint8)
        return buffer.view(self.array.dtype)

    def differs(self) -> Exception:
        return AssertionError("it does not")


@dataclass
class Kept:
    """Stored parts that encoded ones add up to."""

    parts: list[_Part]

    @classmethod
    def of(cls, encoded: list[EncodedPart]) -> Kept:
        found: dict[str, _Part] = {}
        for part in encoded:
            each = found.setdefault(part.name, _Part(part.name, part.spec, part.bits, part.chunk))
            each.chains += [chain for chain, _ in part.chunks]
            each.chunks += [bytes(data) for _, data in part.chunks]
        return cls(list(found.values()))

    def read(self, part: int, chunk: int) -> bytes:
        return self.parts[part].chunks[chunk]


@dataclass
class _Part:
    name: str
    spec: TensorSpec
    bits: int | None
    chunk: int
    chains: list[str] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)


@dataclass
class Shifted:
    """A reference whose elements are close to those of a tensor."""

    array: np.ndarray

    def elements(self, start: int, count: int) -> Reference:
        return Reference(self.array.reshape(-1)[start : start + count])

    def subtract(self, array: np.ndarray, start: int) -> np.ndarray:
        return array - self.elements(start, array.size).values

    def add(self, array: np.ndarray, start: int) -> np.ndarray:
        return array + self.elements(start, array.size).values


CHOICES = [
    ("lossless", None, ExactCoding),
    ("lossless:effort=max", 1 << 12, ExactCoding),
    ("int4", None, WholeCoding),
    ("int4", 1 << 12, BlockCoding),
    ("nf4/exact", None, WholeCoding),
    ("nf4/exact", 1 << 12, BlockCoding),
    ("svd:rank=4", 1 << 12, WholeCoding),
    ("svd:rank=4/exact", 1 << 12, WholeCoding),
    ("svd:rank=4+int8/int:bits=3", 1 << 12, WholeCoding),
    ("trellis:bits=3/exact", 1 << 12, WholeCoding),
    ("base/exact", 1 << 12, ExactCoding),
    ("base/int4", 1 << 12, BlockCoding),
    ("base/int4", None, WholeCoding),
    ("base/svd:rank=4", 1 << 12, WholeCoding),
]


@pytest.mark.parametrize(("text", "limit", "expected"), CHOICES)
def test_encoder_and_decoder_agree_on_every_layer(text: str, limit: int | None, expected: type) -> None:
    array = weights(96, 128, seed=3)
    reference = Shifted(array + weights(96, 128, seed=4) / 100)
    task = Task.of(TensorSpec("F32", array.shape), Pipeline.parse(text), reference)
    task = Task(task.spec, task.pipeline, task.reference, limit or task.limit)
    assert isinstance(coding_of(task), expected)
    with Run(2) as run:
        made = [job.run() for job in coding_of(task).jobs(Work(InMemory(array), run, False, LOSSLESS))]
    stored = Kept.of([part for each in made for part in each.parts])
    final = b"".join(each.check.final.tobytes() for each in made if each.check.final is not None)
    assert b"".join(bytes_of(each).tobytes() for each in decode_tasks(task, stored)) == final
    assert (final == array.tobytes()) == task.pipeline.lossless
    first = b"".join(each.check.first.tobytes() for each in made if each.check.first is not None)
    assert bool(first) == (task.pipeline.rest is not None)
    if first:
        assert b"".join(bytes_of(each).tobytes() for each in decode_tasks(task.first, stored)) == first
    counts = [(each.start, each.count) for each in decode_tasks(task, stored)]
    assert sum(count for _, count in counts) == array.size
    assert [start for start, _ in counts] == sorted(start for start, _ in counts)


@pytest.mark.parametrize("elements", [0, 1])
@pytest.mark.parametrize("text", ["lossless", "int4", "svd:rank=1", "codebook:bits=2"])
def test_a_unit_without_elements_has_one_task(elements: int, text: str) -> None:
    task = Task.of(TensorSpec("F32", (elements, 3)), Pipeline.parse("lossless" if not elements else text))
    with Run(1) as run:
        source = InMemory(np.ones((elements, 3), "<f4"))
        made = [job.run() for job in coding_of(task).jobs(Work(source, run, True, LOSSLESS))]
    (only,) = decode_tasks(task, Kept.of([part for each in made for part in each.parts]))
    assert only.count == 3 * elements


@pytest.mark.parametrize(
    ("way", "method", "pipeline", "shape"),
    [
        (ExactCoding, "_decode", "lossless", (64, 96)),
        (WholeCoding, "_values", "svd:rank=2", (64, 96)),
        (WholeCoding, "_decode_exact", "int4/exact", (64, 96)),
        (BlockCoding, "_decode", "int4", (1100, 1000)),
        (BlockCoding, "_decode", "int4/exact", (1100, 1000)),
    ],
)
def test_a_broken_decoder_fails_the_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: type, method: str, pipeline: str, shape: tuple[int, int]
) -> None:
    """Readers have no other decoder than the one that checks what is written."""
    source = write(tmp_path / "m.safetensors", {"w": weights(*shape, seed=1)})
    sound = tmp_path / "sound.bale"
    bale.compress(source, sound, rules=[f"*={pipeline}"])
    expected = names_in(tmp_path)
    honest: Callable[..., Any] = getattr(way, method)

    def broken(*arguments: Any) -> Any:
        found = honest(*arguments)
        array = np.array(found.values if isinstance(found, Reference) else found)
        array.view(np.uint8).reshape(-1)[-1] ^= 1
        return Reference(array) if isinstance(found, Reference) else array

    monkeypatch.setattr(way, method, broken)
    with pytest.raises(OutputError, match="read back"):
        bale.compress(source, tmp_path / "m.bale", rules=[f"*={pipeline}"])
    assert names_in(tmp_path) == expected
    with pytest.raises(bale.errors.ArchiveError):
        bale.verify(sound)


@pytest.mark.parametrize("problem", [KeyError("w"), IndexError("3"), TypeError("no"), AssertionError()])
def test_a_fault_of_our_own_is_not_blamed_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """Writing, it is an internal error; reading, where an archive can be forged, it is said to be possible."""
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 96, seed=1)})
    bale.compress(source, tmp_path / "sound.bale")

    def broken(*_: Any) -> Any:
        raise problem

    monkeypatch.setattr(ExactCoding, "_decode", broken)
    with pytest.raises(type(problem)):
        bale.compress(source, tmp_path / "m.bale")
    with pytest.raises(bale.errors.ArchiveError) as caught:
        bale.verify(tmp_path / "sound.bale")
    assert "report it" in (caught.value.hint or "")
    assert caught.value.__cause__ is problem
    assert not (tmp_path / "m.bale").exists()
