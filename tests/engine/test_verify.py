"""Checking an archive by itself and against its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import ArchiveError, CheckFailed, SourceError
from tests.io.archive.test_archive import forge, unit_of
from tests.making import bf16, weights, write


@pytest.fixture
def lossless(model: Path) -> Path:
    bale.compress(model, model.with_name("lossless.bale"))
    return model.with_name("lossless.bale")


@pytest.fixture
def lossy(model: Path) -> Path:
    bale.compress(model, model.with_name("lossy.bale"), pipeline="int4")
    return model.with_name("lossy.bale")


def test_sound_archives(model: Path, lossless: Path, lossy: Path) -> None:
    for archive, exact in ((lossless, True), (lossy, False)):
        for against in (None, model):
            done = bale.verify(archive, against)
            assert (done.size, done.files, done.tensors, done.exact) == (archive.stat().st_size, 1, 4, exact)


def changed(model: Path, name: str) -> Path:
    """A copy of the source in which the last value of one tensor is another."""
    data = bytearray(model.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    import json

    end = json.loads(data[8:header])[name]["data_offsets"][1]
    data[header + end - 1] ^= 0x40
    path = model.with_name("changed.safetensors")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["layers.1.weight", "layers.1.bias"])
def test_another_value(model: Path, lossless: Path, lossy: Path, name: str) -> None:
    for archive in (lossless, lossy):
        with pytest.raises(CheckFailed, match=name):
            bale.verify(archive, changed(model, name))


def test_an_archive_whose_source_was_divided_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another version of the reader: the bytes decide."""
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)}, {"log": "line " * 10_000})
    bale.compress(source, tmp_path / "m.bale")
    monkeypatch.setattr("bale.io.sources.open._SKELETON_RANGE", 100)
    assert bale.verify(tmp_path / "m.bale", source).exact
    other = write(tmp_path / "other.safetensors", {"w": weights(64, 64)}, {"log": "life " * 10_000})
    with pytest.raises(CheckFailed, match="does not hold the same tensors"):
        bale.verify(tmp_path / "m.bale", other)
    monkeypatch.undo()
    with pytest.raises(CheckFailed, match="differs between its tensors"):
        bale.verify(tmp_path / "m.bale", other)


def test_what_an_archive_decodes_to_is_no_source_of_it(model: Path, lossy: Path) -> None:
    """Its errors would be zero, not those in the manifest."""
    bale.decompress(lossy, model.with_name("back"))
    with pytest.raises(CheckFailed, match="relative error"):
        bale.verify(lossy, model.with_name("back"))


def _rename(folder: Path) -> Path:
    return write(folder / "other", {"v": bf16(weights(64, 128))})


def _shape(folder: Path) -> Path:
    return write(folder / "other", {"w": bf16(weights(128, 64))})


def _metadata(folder: Path) -> Path:
    return write(folder / "other", {"w": bf16(weights(64, 128))}, {"a": "c"})


def _longer(folder: Path) -> Path:
    return write(folder / "other", {"w": bf16(weights(64, 128)), "v": weights(3)}, {"a": "b"})


@pytest.mark.parametrize("make", [_rename, _shape, _metadata, _longer])
def test_another_structure(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    bale.compress(write(tmp_path / "m", {"w": bf16(weights(64, 128))}, {"a": "b"}))
    with pytest.raises(CheckFailed):
        bale.verify(tmp_path / "m.bale", make(tmp_path))


def test_sources_that_cannot_be_read(tmp_path: Path, lossless: Path) -> None:
    with pytest.raises(SourceError):
        bale.verify(lossless, tmp_path / "none")
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(SourceError):
        bale.verify(lossless, tmp_path / "empty.safetensors")


def test_a_manifest_with_other_errors(model: Path, lossy: Path) -> None:
    """Sound by all its digests, but the loss is not what it says."""

    def lower(manifest: dict) -> None:
        unit_of(manifest, "embed.weight")["errors"][0] *= 0.99

    lossy.write_bytes(forge(lossy.read_bytes(), lower))
    bale.verify(lossy)
    with pytest.raises(CheckFailed, match=r"embed\.weight"):
        bale.verify(lossy, model)


def test_a_manifest_with_another_error_of_rows(model: Path, lossy: Path) -> None:
    data = lossy.read_bytes()
    for forged in (0.99, 1.01, None):

        def change(manifest: dict, forged: float | None = forged) -> None:
            unit = unit_of(manifest, "embed.weight")
            unit["worst_row"] *= forged or 0
            if forged is None:
                del unit["worst_row"]

        lossy.write_bytes(forge(data, change))
        bale.verify(lossy)
        with pytest.raises(CheckFailed, match=r"embed\.weight has a row with an error of"):
            bale.verify(lossy, model)


def test_a_format_that_had_no_errors_of_rows() -> None:
    golden = Path(__file__).parents[1] / "golden"
    done = bale.verify(golden / "1.0-tensors-int.bale", golden / "1.0-tensors.safetensors")
    assert done.lossy
    assert all(row.worst_row_error or row.error == 0 for row in done.lossy)  # which are measured all the same
    assert all(row.worst_row_error is None for row in bale.verify(golden / "1.0-tensors-int.bale").lossy)


def test_lossy_tensors_are_told_with_what_was_measured_or_recorded(model: Path, lossless: Path, lossy: Path) -> None:
    assert bale.verify(lossless, model).lossy == bale.verify(lossless).lossy == ()
    with bale.open(lossy) as opened:
        report = {row.name: row for row in opened.report.lossy_rows}
    for against in (None, model):
        done = bale.verify(lossy, against)
        assert [row.name for row in done.lossy] == list(report)
        for row in done.lossy:
            assert row.error == pytest.approx(report[row.name].error, rel=1e-9)
            assert row.worst_row_error == pytest.approx(report[row.name].worst_row_error, rel=1e-9)


def test_a_loss_in_integers_is_no_loss_of_ours(tmp_path: Path) -> None:
    source = write(tmp_path / "m", {"ids": np.arange(100), "w": weights(64, 64)})
    bale.compress(source, f"{source}.bale", pipeline="int8")
    archive = tmp_path / "m.bale"
    archive.write_bytes(
        forge(archive.read_bytes(), lambda manifest: unit_of(manifest, "ids").update(errors=[0, 1, 1, 1, 0]))
    )
    with pytest.raises(CheckFailed, match="ids"):
        bale.verify(archive, source)


def test_damage_is_found_by_verify_too(lossless: Path) -> None:
    data = lossless.read_bytes()
    for at in range(0, len(data), 997):
        lossless.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(ArchiveError):
            bale.verify(lossless)


def test_many_empty_tensors_are_found_again(tmp_path: Path) -> None:
    """Offsets leave their order open, and the library that reads them has a new one every time."""
    source = write(tmp_path / "m", {f"e{n}": np.zeros((0, n), "<f4") for n in range(20)} | {"w": weights(4)})
    bale.compress(source)
    for _ in range(5):
        bale.verify(tmp_path / "m.bale", source)
