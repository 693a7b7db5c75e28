"""Giving back, and opening as a mapping."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import bale
from bale.errors import ArchiveError, OutputError, UsageError
from bale.io.archive.archive import open_archive
from bale.io.sources.open import open_checkpoint
from tests.making import names_in, random_raw, sha256, weights, write


def test_to_a_stream(model: Path) -> None:
    from bale.api import decompress_to

    bale.compress(model)
    stream = io.BytesIO()
    done = decompress_to(f"{model}.bale", stream)
    assert stream.getvalue() == model.read_bytes()
    assert (done.sha256, done.exact) == (sha256(model), True)
    (model.parent / "folder").mkdir()
    with pytest.raises(UsageError):
        decompress_to(model.parent / "folder", stream)


def test_what_comes_back_with_loss_keeps_its_structure(model: Path) -> None:
    bale.compress(model, model.with_name("4.bale"), pipeline="int4")
    done = bale.decompress(model.with_name("4.bale"), model.with_name("back"))
    before, after = model.read_bytes(), done.path.read_bytes()
    assert len(before) == len(after) == done.size
    header = 8 + int.from_bytes(before[:8], "little")
    assert before[:header] == after[:header]
    assert before != after
    assert not done.exact
    assert done.sha256 == sha256(done.path)


def test_compressing_what_came_back_is_stable(model: Path) -> None:
    """int8 of values that int8 gave is another int8; the errors stay of the same size, nothing drifts away."""
    bale.compress(model, model.with_name("1.bale"), pipeline="int8")
    bale.decompress(model.with_name("1.bale"), model.with_name("1"))
    report = bale.compress(model.with_name("1"), model.with_name("2.bale"), pipeline="int8").to_json()
    assert report["totals"]["relative_error"] < 0.01


@pytest.mark.parametrize("pipeline", ["int4", "int4/exact"])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_crc_of_a_torch_file_fits_the_values_that_came_back(
    tmp_path: Path, pipeline: str, streamed: bool
) -> None:
    """Those in the directory, in local headers and in data descriptors: a ZIP tool looks at any of them."""
    source, out = tmp_path / "m.pt", tmp_path / "back.pt"
    torch.save({"w": torch.from_numpy(weights(96, 128)), "kept": torch.arange(50)}, source)
    if streamed:
        with zipfile.ZipFile(source) as file:
            members = {name: file.read(name) for name in file.namelist()}
        stream = io.BytesIO()
        stream.seekable = lambda: False  # type: ignore[method-assign]
        with zipfile.ZipFile(stream, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
        source.write_bytes(stream.getvalue())
    fields = [len(checksum.fields) for checksum in open_checkpoint(source).checksums]
    assert fields == [2, 2]
    bale.compress(source, tmp_path / "m.bale", pipeline=pipeline)
    bale.decompress(tmp_path / "m.bale", out, layers=1)
    assert source.read_bytes() != out.read_bytes()
    with zipfile.ZipFile(out) as file:
        assert file.testzip() is None
    found = open_checkpoint(out).checksums  # which leaves out fields that do not fit
    assert [len(checksum.fields) for checksum in found] == fields
    assert torch.load(out)["w"].shape == (96, 128)


def test_a_failure_at_the_end_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bale.engine import restore

    bale.compress(model)
    monkeypatch.setattr(restore, "_check_source", lambda archive, sha256: (_ for _ in ()).throw(ArchiveError("late")))
    before = names_in(model.parent)
    with pytest.raises(ArchiveError, match="late"):
        bale.decompress(f"{model}.bale", model.with_name("back"))
    assert names_in(model.parent) == before


def test_a_full_disk(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    bale.compress(model)
    before = names_in(model.parent)

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    for verb in (
        lambda: bale.decompress(f"{model}.bale", model.with_name("x")),
        lambda: bale.compress(model, model.with_name("y")),
    ):
        with pytest.raises(OutputError, match=r"it needs at least \d+ bytes there(, about 4\d\.\d kB in all)?; free"):
            verb()
    assert names_in(model.parent) == before


def test_open_as_a_mapping(tmp_path: Path) -> None:
    raws = {dtype: random_raw(dtype, (4, 8), 1) for dtype in ("BF16", "F32", "F8_E4M3", "I64", "BOOL", "F4", "C64")}
    source = write(tmp_path / "m.safetensors", raws)
    bale.compress(source)
    with bale.open(tmp_path / "m.safetensors.bale") as tensors:
        assert list(tensors) == list(raws)
        assert len(tensors) == 7
        assert "F32" in tensors
        assert "none" not in tensors
        assert tensors["BF16"].dtype == ml_dtypes.bfloat16
        assert tensors["F8_E4M3"].dtype == ml_dtypes.float8_e4m3fn
        assert tensors["F32"].dtype == np.float32
        assert tensors["F32"].shape == (4, 8)
        assert tensors["F4"].shape == (16,)
        for name, raw in raws.items():
            assert tensors[name].tobytes() == raw.data
        with pytest.raises(KeyError):
            tensors["none"]


def test_opening_what_is_no_archive(model: Path) -> None:
    with pytest.raises(ArchiveError):
        bale.open(model)


def test_tensors_are_decoded_one_at_a_time(model: Path) -> None:
    """Damage in one tensor does not keep the others from being read."""
    bale.compress(model)
    path = Path(f"{model}.bale")
    with open_archive(path) as archive:
        at = archive.offsets[0][0]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with bale.open(path) as tensors:
        first, *others = tensors
        with pytest.raises(ArchiveError):
            tensors[first]
        for name in others:
            assert tensors[name].size


def test_progress_counts_every_byte(model: Path) -> None:
    seen: list[tuple[str, int]] = []
    bale.compress(model, progress=lambda name, done: seen.append((name, done)))
    payload = sum(done for _, done in seen)
    assert {name for name, _ in seen} == {"layers.1.weight", "layers.1.bias", "layers.10.weight", "embed.weight"}
    assert payload == model.stat().st_size - 8 - int.from_bytes(model.read_bytes()[:8], "little")
    seen.clear()
    bale.decompress(f"{model}.bale", model.with_name("x"), progress=lambda name, done: seen.append((name, done)))
    assert sum(done for _, done in seen) == payload


def test_an_empty_weight_is_an_array(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"e": np.zeros((0, 3), "<f4"), "w": weights(3)})
    bale.compress(source)
    with bale.open(tmp_path / "m.safetensors.bale") as tensors:
        assert tensors["e"].shape == (0, 3)
