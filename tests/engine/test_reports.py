"""A report and its archive: one commit, and a check that they belong together."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.api import compressing
from bale.engine.reports import report_fits
from bale.errors import OutputError
from bale.io.reports import read_report
from bale.io.storage import commit
from tests.making import bf16, names_in, sha256, weights, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "zoo"
    made.mkdir()
    for n in (1, 2):
        write(made / f"{n}.safetensors", {"w": bf16(weights(64, 64, seed=n))})
    (made / "config.json").write_text("{}")
    return made


@pytest.fixture(params=["file", "folder"])
def source(request: pytest.FixtureRequest, model: Path, folder: Path) -> Path:
    return model if request.param == "file" else folder


def beside(source: Path) -> tuple[Path, Path]:
    out = source.with_name(f"{source.name}.bale")
    return out, out.with_name(f"{out.name}.report.json")


def clear(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("verify", [True, False])
def test_a_report_fits_its_archive(source: Path, verify: bool) -> None:
    bale.compress(source, verify=verify)
    out, report = beside(source)
    assert bale.verify(out).report == "matches"
    assert not any("report" in note for note in bale.inspect(out)["notes"])
    report.unlink()
    assert bale.verify(out).report is None
    assert not any("report" in note for note in bale.inspect(out)["notes"])


@pytest.mark.parametrize("verify", [True, False])
def test_a_report_of_another_archive_is_told(source: Path, verify: bool) -> None:
    """The other one has as many bytes, where it is not verified: then the digest of its manifest tells."""
    bale.compress(source, verify=verify)
    out, report = beside(source)
    kept = report.read_bytes()
    first = source if source.is_file() else source / "1.safetensors"
    data = bytearray(first.read_bytes())
    data[-1:] = bytes([data[-1] ^ 1]) if verify else b"\x7f"
    first.write_bytes(data)
    bale.compress(source, verify=verify, force=True)
    assert bale.verify(out).report == "matches"
    report.write_bytes(kept)
    assert bale.verify(out).report == "of another archive"
    assert "the report beside it is of another archive" in bale.inspect(out)["notes"]


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "bytes": lambda told: told.update(bytes=told["bytes"] + 1),
    "sha256": lambda told: told.update(sha256="0" * 64),
    "manifest": lambda told: told.update(manifest="0" * 32),
    "no bytes": lambda told: told.pop("bytes"),
    "text for bytes": lambda told: told.update(bytes="1"),
    "nonsense": lambda told: told.update(sha256=[5]),
}


@pytest.mark.parametrize("case", FORGED)
def test_every_figure_is_compared(source: Path, case: str) -> None:
    bale.compress(source)
    out, report = beside(source)
    edit(report, lambda data: FORGED[case](data["archive"] if source.is_file() else data["files"][1]["archive"]))
    assert not report_fits(read_report(report) or {}, out)
    if source.is_dir() or case not in ("sha256", "nonsense"):  # which costs a pass over a file of its own
        assert bale.verify(out).report == "of another archive"


def test_reports_that_are_older_have_no_manifest(model: Path) -> None:
    bale.compress(model)
    out, report = beside(model)
    edit(report, lambda data: data["archive"].pop("manifest"))
    assert bale.verify(out).report == "matches"
    edit(report, lambda data: data["archive"].update(sha256="1" * 64))
    assert bale.verify(out).report == "of another archive"


def test_the_files_of_a_folder_are_those_of_its_report(folder: Path) -> None:
    bale.compress(folder)
    out, report = beside(folder)
    found = read_report(report)
    assert found is not None
    assert report_fits(found, out)
    assert not report_fits({**found, "files": found["files"][:1]}, out)
    assert not report_fits({**found, "side_bytes": 99}, out)
    assert not report_fits({**found, "files": None}, out)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"archive": {}}', '{"archive": 1, "tool": 2}', "[" * 100_000]
)
def test_what_is_no_report(model: Path, text: str) -> None:
    bale.compress(model)
    out, report = beside(model)
    report.write_text(text)
    assert read_report(report) is None
    assert bale.verify(out).report == "no report of bale's"
    assert "the report beside it is no report of bale's" in bale.inspect(out)["notes"]
    with pytest.raises(OutputError, match=r"report\.json exists already and is no report of bale's; remove it"):
        bale.compress(model, skip_existing=True)
    assert report.read_text() == text
    assert bale.compress(model, skip_existing=True, force=True).skipped
    assert bale.verify(out).report == "matches"
    report.unlink()
    assert bale.compress(model, skip_existing=True).skipped
    assert bale.verify(out).report == "matches"
    report.write_text(text)
    out.unlink()
    with pytest.raises(OutputError, match=r"report\.json exists already"):
        bale.compress(model)
    assert report.read_text() == text


# A report without its archive.


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("pipeline", [None, "int8"])
def test_a_report_of_the_same_work_is_replaced(source: Path, verify: bool, pipeline: str | None) -> None:
    """That is what a killed run leaves; whether the archive is lost or elsewhere, nothing that was told is lost."""
    out = beside(source)[0]
    bale.compress(source, out, pipeline=pipeline, verify=verify)
    clear(out)
    bale.compress(source, out, pipeline=pipeline, verify=verify)
    assert bale.verify(out).report == "matches"


def _edited(source: Path) -> dict[str, Any]:
    """Of the same size."""
    return {**_other_source(source), "pipeline": None}


@pytest.mark.parametrize("change", [lambda source: {"pipeline": "int8"}, _edited])
def test_a_report_of_an_archive_that_was_moved_is_kept(
    source: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]]
) -> None:
    out, report = beside(source)
    bale.compress(source, out)
    kept = report.read_bytes()
    out.rename(tmp_path / "moved.bale")
    choices = change(source)
    with pytest.raises(OutputError, match=r"report\.json exists already"):
        bale.compress(source, out, **choices)
    assert report.read_bytes() == kept
    if source.is_file():
        assert not out.exists()
    bale.compress(source, out, force=True, **choices)
    assert bale.verify(out).report == "matches"


def test_a_report_of_a_source_of_another_size_is_kept_before_any_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bale.compress(model, tmp_path / "x.bale")
    (tmp_path / "x.bale").rename(tmp_path / "y.bale")
    report = tmp_path / "x.bale.report.json"
    kept = report.read_bytes()
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / model.name, {"w": weights(9, 9)})
    monkeypatch.setattr(compressing, "resolve_plan", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(OutputError, match=r"report\.json exists already"):
        bale.compress(other, tmp_path / "x.bale")
    assert report.read_bytes() == kept


@pytest.mark.parametrize("same_source", [True, False])
def test_a_report_at_a_place_of_its_own_is_never_taken_for_a_lost_one(tmp_path: Path, same_source: bool) -> None:
    """Archives of one name in two folders, and one file for the reports of both."""
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        write(tmp_path / str(n) / "m.safetensors", {"w": weights(64, 64, seed=0 if same_source else n)})
    report = tmp_path / "all.json"
    bale.compress(tmp_path / "1" / "m.safetensors", report=report)
    kept = report.read_bytes()
    with pytest.raises(OutputError, match=r"all\.json exists already"):
        bale.compress(tmp_path / "2" / "m.safetensors", report=report)
    assert report.read_bytes() == kept
    assert not (tmp_path / "2" / "m.safetensors.bale").exists()


def test_a_report_of_another_name_is_not(model: Path, tmp_path: Path) -> None:
    bale.compress(model, tmp_path / "one.bale")
    report = tmp_path / "two.bale.report.json"
    (tmp_path / "one.bale.report.json").rename(report)
    with pytest.raises(OutputError, match=r"report\.json exists already"):
        bale.compress(model, tmp_path / "two.bale")
    assert not (tmp_path / "two.bale").exists()


@pytest.mark.parametrize("force", [False, True])
def test_no_archive_without_its_report(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """The disk is full when the report is written: what was there before is there still."""
    out, report = beside(source)
    if force:
        bale.compress(source, beside(source)[0], pipeline="int8")
    before = {name: sha256(tmp_path / name) for name in names_in(tmp_path) if (tmp_path / name).is_file()}
    honest = commit.write_at

    def full(descriptor: int, data: bytes, at: int, what: str) -> None:
        if what == str(report):
            raise OutputError(f"cannot write {what}: no space left on device")
        honest(descriptor, data, at, what)

    with monkeypatch.context() as patched:
        patched.setattr(commit, "write_at", full)
        with pytest.raises(OutputError, match="no space"):
            bale.compress(source, force=force)
    after = {name: sha256(tmp_path / name) for name in names_in(tmp_path) if (tmp_path / name).is_file()}
    if source.is_file():
        assert after == before
    else:  # a folder that is overwritten is incomplete until the next run
        assert sha256(report) == before[report.name] if force else not report.exists()
    bale.compress(source, force=force)
    assert bale.verify(out, source).report == "matches"


# An archive without its report.


def same(report: dict[str, Any], other: dict[str, Any]) -> bool:
    def plain(data: dict[str, Any]) -> dict[str, Any]:
        rows = [{**row, "seconds": 0} for row in data["tensors"]]
        return {**data, "tensors": rows, "notes": [], "note_kinds": []}

    return plain(report) == plain(other)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("pipeline", [None, "int8"])
def test_a_report_that_is_missing_is_made_again(source: Path, verify: bool, pipeline: str | None) -> None:
    bale.compress(source, beside(source)[0], pipeline=pipeline, verify=verify)
    out, report = beside(source)
    told, stamps = json.loads(report.read_bytes()), {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    report.unlink()
    made = bale.compress(source, beside(source)[0], pipeline=pipeline, verify=verify)
    assert same(json.loads(report.read_bytes()), told) or (not verify and source.is_dir())
    assert made.all_notes[0].kind == "report-again"
    assert bale.verify(out).report == "matches"
    assert stamps == {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}


def test_what_was_refused_is_not_another_choice(tmp_path: Path) -> None:
    """A tensor with NaN is stored without loss, whatever the pipeline."""
    bad = weights(64, 64)
    bad[3, 3] = np.nan
    source = write(tmp_path / "bad.safetensors", {"a": weights(64, 64, seed=1), "b": bad, "c": bad})
    told = bale.compress(source, beside(source)[0], pipeline="int8").to_json()
    assert [row["pipeline"] for row in told["tensors"]] == ["int8", "lossless", "lossless"]
    beside(source)[1].unlink()
    assert same(bale.compress(source, beside(source)[0], pipeline="int8").to_json(), told)


def _other_pipeline(source: Path) -> dict[str, Any]:
    return {"pipeline": "int4"}


def _other_rule(source: Path) -> dict[str, Any]:
    return {"rules": ["*weight=int8", "w=int8"], "allow_unmatched": True}


def _other_source(source: Path) -> dict[str, Any]:
    first = source if source.is_file() else source / "1.safetensors"
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    return {"pipeline": "int8"}


def _damaged(source: Path) -> dict[str, Any]:
    out = beside(source)[0]
    first = out if out.is_file() else out / "1.safetensors.bale"
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    return {"pipeline": "int8"}


@pytest.mark.parametrize("change", [_other_pipeline, _other_rule, _other_source, _damaged])
def test_an_archive_of_other_choices_is_not_taken_for_this_one(
    source: Path, change: Callable[[Path], dict[str, Any]]
) -> None:
    bale.compress(source, beside(source)[0], pipeline="int8")
    out, report = beside(source)
    report.unlink()
    choices = change(source)
    before = {path: sha256(path) for path in [out, *out.rglob("*")] if path.is_file()}
    with pytest.raises(OutputError, match="exists already"):
        bale.compress(source, beside(source)[0], **choices)
    assert not report.exists()
    assert before == {path: sha256(path) for path in before}


def test_another_base_is_another_choice(tmp_path: Path, model: Path) -> None:
    tuned = write(
        tmp_path / "tuned.safetensors", {"layers.10.weight": weights(96, 64, seed=3) + weights(96, 64, seed=9) / 1000}
    )
    bale.compress(tuned, base=model)
    out, report = beside(tuned)
    report.unlink()
    with pytest.raises(OutputError, match="exists already"):
        bale.compress(tuned)
    bale.compress(tuned, base=model)
    assert bale.verify(out).report == "matches"


def test_statistics_are_not_in_the_archive(model: Path, stats: Path) -> None:
    choices: dict[str, Any] = {"pipeline": "int:bits=4,clip=mse", "stats": stats}
    bale.compress(model, beside(model)[0], **choices)
    beside(model)[1].unlink()
    with pytest.raises(OutputError, match="exists already"):
        bale.compress(model, beside(model)[0], **choices)


def test_the_folder_of_a_report_is_brought_to_the_disk_too(model: Path, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    synced: list[int] = []
    honest = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        honest(descriptor)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", watched)
        bale.compress(model, report=tmp_path / "reports" / "r.json")
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "reports")} <= set(synced)


def test_an_error_of_the_last_call_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(commit, "sync_folder", fail)
    with pytest.raises(OutputError, match="input/output error"):
        bale.compress(model)
    assert names_in(tmp_path) == [model.name]
