"""Tensors are the same by name, or by content, in whatever format they lie: differences, comparison, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import bale
from bale.spec import Array
from tests.io.sources.hdf5_files import hdf5
from tests.io.sources.samples import BIAS, SAMPLES, WEIGHTS, Sample, gguf
from tests.io.sources.tensorflow_files import checkpoint
from tests.making import weights

of_each = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
MODEL = {f"model.layers.{layer}.up.weight": weights(48, 96, seed=layer) for layer in range(3)}
OTHER_NAMES = [f"blk.{layer}.ffn_up.weight" for layer in range(3)]


def file(sample: Sample, folder: Path) -> Path:
    for name, data in sample.beside().items():
        (folder / name).write_bytes(data)
    path = folder / sample.name
    path.write_bytes(sample.make())
    return path


def saved(path: Path, tensors: dict[str, Array] | None = None) -> Path:
    safetensors.numpy.save_file({"weight": WEIGHTS, "bias": BIAS} if tensors is None else tensors, path)
    return path


def stored(source: Path, archive: Path, base: Path) -> float:
    """Bytes of the tensors as differences, by those of their values; the source comes back from them."""
    report = bale.compress(source, archive, base=base, force=True)
    back = archive.with_name(f"back-{source.name}")
    bale.decompress(archive, back, base=base, force=True)
    assert back.read_bytes() == source.read_bytes()
    rows = [row for each in report.files for row in each.rows if row.name != "payload between tensors"]
    return sum(row.stored_bytes for row in rows) / sum(row.spec.nbytes for row in rows)


@of_each
def test_differences_to_another_format(sample: Sample, tmp_path: Path) -> None:
    source, other = file(sample, tmp_path), saved(tmp_path / "base.safetensors")
    assert stored(source, tmp_path / "m.bale", other) < 0.02
    assert stored(other, tmp_path / "m.bale", source) < 0.02


@of_each
def test_comparison_with_another_format(sample: Sample, tmp_path: Path) -> None:
    source, other = file(sample, tmp_path), saved(tmp_path / "base.safetensors")
    found = bale.compare(source, other)
    assert [each.status for each in found] == ["equal", "equal"]
    bale.compress(source, tmp_path / "m.bale")
    assert [each.status for each in bale.compare(other, tmp_path / "m.bale")] == ["equal", "equal"]


@of_each
def test_arrays_of_an_archive(sample: Sample, tmp_path: Path) -> None:
    bale.compress(file(sample, tmp_path), tmp_path / "m.bale")
    with bale.open(tmp_path / "m.bale") as tensors:
        assert set(sample.names) <= set(tensors)
        for name in sample.names:
            assert np.array_equal(tensors[name], BIAS if "bias" in name else WEIGHTS)


def in_format(kind: str, folder: Path, names: list[str]) -> Path:
    """The model in a format, by other names."""
    values = dict(zip(names, MODEL.values(), strict=True))
    path = folder / f"m.{kind}"
    if kind == "npz":
        np.savez(path, **values)  # type: ignore[arg-type]
    elif kind == "weights.h5":
        path.write_bytes(hdf5(values))
    elif kind == "gguf":
        halves = {name: (1, value.shape, value.astype("<f2").tobytes()) for name, value in values.items()}
        path.write_bytes(gguf(halves))
    else:
        path = checkpoint(folder, {f"{name}/.ATTRIBUTES/VARIABLE_VALUE": value for name, value in values.items()})
    return path


@pytest.mark.parametrize("kind", ["npz", "weights.h5", "gguf", "tensorflow"])
@pytest.mark.parametrize("names", [list(MODEL), OTHER_NAMES])
def test_a_model_by_other_names_or_in_halves(tmp_path: Path, kind: str, names: list[str]) -> None:
    source, base = in_format(kind, tmp_path, names), saved(tmp_path / "base.safetensors", MODEL)
    assert stored(source, tmp_path / "m.bale", base) < 0.02
    worst = max(each.relative_error or 0 for each in bale.compare(base, source))
    assert worst < 0.0005 if kind == "gguf" else worst == 0
    if kind != "gguf":  # of halves half the bits are not known
        assert stored(base, tmp_path / "m.bale", source) < 0.02
