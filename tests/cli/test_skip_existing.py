"""`--skip-existing`: what is finished and of the same bytes and choices is passed over, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bale.engine import verify as decoding
from tests.cli.conftest import Bale
from tests.making import names_in, sha256, weights, write


@pytest.fixture(params=["file", "folder"])
def source(request: pytest.FixtureRequest, bale: Bale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source whose archive lies beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    path = write(tmp_path / "model" / "m.safetensors", {"w": weights(64, 64), "b": weights(9)})
    found = path.rename("m.safetensors") if request.param == "file" else path.parent
    assert bale("compress", found, "-q").code == 0
    return Path(found.name)


def skipped(bale: Bale, source: Path, *more: object) -> bool:
    """Whether a source is passed over; then nothing has changed."""
    before = {
        name: (sha256(Path(name)), os.stat(name).st_mtime_ns) for name in names_in(Path()) if os.path.isfile(name)
    }
    said = bale("compress", source, "--skip-existing", "--json", *more)
    assert said.code == 0, said
    after = {name: (sha256(Path(name)), os.stat(name).st_mtime_ns) for name in names_in(Path()) if os.path.isfile(name)}
    found = said.result.get("skipped", False)
    assert (before == after) == found
    return bool(found)


def weights_file(folder: Path, suffix: str = "") -> Path:
    return folder / f"m.safetensors{suffix}" if folder.is_dir() else folder


def test_what_is_there_is_passed_over(bale: Bale, source: Path) -> None:
    assert skipped(bale, source)
    said = bale("compress", source, "--skip-existing")
    assert said.out.startswith(f"{source} -> {source}.bale: there already, ")
    assert said.err == ""
    report = json.loads(Path(f"{source}.bale.report.json").read_text())
    found = bale("compress", source, "--skip-existing", "--json").result
    assert {key: found[key] for key in ("source", "archive", "verified")} == {
        key: report[key] for key in ("source", "archive", "verified")
    }
    assert skipped(bale, source, "-f")


def test_what_is_not_there_is_made(bale: Bale, source: Path) -> None:
    assert not skipped(bale, source, "-o", "new.bale")
    assert skipped(bale, source, "-o", "new.bale")
    assert not skipped(bale, source, "-p", "int8", "-o", "lossy.bale")
    assert skipped(bale, source, "-p", "int8", "-o", "lossy.bale")


def test_the_report_alone_is_made_again(bale: Bale, source: Path) -> None:
    report = Path(f"{source}.bale.report.json")
    before = json.loads(report.read_text())
    report.unlink()
    said = bale("compress", source, "--skip-existing")
    assert said.code == 0
    assert "only its report was made, again" in said.err
    assert json.loads(report.read_text())["source"] == before["source"]


def test_it_is_not_decoded(bale: Bale, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "restored", lambda decoder: pytest.fail("it is decoded"))
    assert skipped(bale, source)


def test_another_source_is_told(bale: Bale, source: Path) -> None:
    path = weights_file(source)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    words = "it is of another source" if source.is_file() else "its m.safetensors is not what would be made"
    bale("compress", source, "--skip-existing").failed(6, f"{source}.bale exists already: {words}", "-f")
    assert not skipped(bale, source, "-f")
    assert skipped(bale, source)


def test_other_choices_are_told(bale: Bale, source: Path) -> None:
    words = "other choices"
    bale("compress", source, "--skip-existing", "--rule", "w=int8", "-o", f"{source}.bale").failed(6, words)
    assert bale("compress", source, "-f", "-q", "--no-verify").code == 0
    words = "it was made with --no-verify" if source.is_file() else "other choices"
    bale("compress", source, "--skip-existing").failed(6, words)


def test_damage_is_told(bale: Bale, source: Path) -> None:
    archive = weights_file(Path(f"{source}.bale"), ".bale")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    bale("compress", source, "--skip-existing").failed(6, "exists already", "-f")
    Path(f"{source}.bale.report.json").unlink()
    bale("compress", source, "--skip-existing").failed(6, "exists already", "-f")
    archive.write_bytes(b"")
    bale("compress", source, "--skip-existing").failed(6, "exists already", "-f")


def test_a_report_of_another_archive_is_told(bale: Bale, source: Path) -> None:
    assert bale("compress", source, "-p", "int8", "-q", "-o", "other.bale").code == 0
    shutil.copy("other.bale.report.json", f"{source}.bale.report.json")
    said = bale("compress", source, "--skip-existing")
    assert said.code == 0
    assert "the report beside it is of another archive" in said.err


def test_a_folder_with_another_file_is_told(bale: Bale, source: Path) -> None:
    if source.is_dir():
        (source / "config.json").write_text("{}")
        bale("compress", source, "--skip-existing").failed(6, "it has no config.json")
        assert bale("compress", source, "-q", "-f").code == 0
        (source / "config.json").unlink()
        bale("compress", source, "--skip-existing").failed(6, "it has config.json, which the source has not")


def test_bases_and_statistics_are_choices(bale: Bale, source: Path, tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"w": weights(64, 64) + np.float32(1e-4)})
    stats = [write(tmp_path / f"{n}.stats", {"w": np.full(64, n, "<f4")}) for n in (1, 2)]
    for made, other in (
        (["--base", base], []),
        (["-p", "int8", "--stats", stats[0]], ["-p", "int8", "--stats", stats[1]]),
    ):
        out = ["-o", f"{len(made)}.bale"]
        assert not skipped(bale, source, *made, *out)
        assert skipped(bale, source, *made, *out)
        bale("compress", source, *other, *out, "--skip-existing").failed(6, "exists already")


def test_a_checkpoint_that_is_there(bale: Bale, source: Path) -> None:
    archive, out = f"{source}.bale", Path("back")
    assert "skipped" not in bale("decompress", archive, "-o", out, "--skip-existing", "--json").result
    before = names_in(Path())
    assert bale("decompress", archive, "-o", out, "--skip-existing", "--json").result["skipped"] is True
    assert "there already" in bale("decompress", archive, "--skip-existing").out
    assert names_in(Path()) == before
    path = weights_file(out)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bale("decompress", archive, "-o", out, "--skip-existing").failed(6, "exists already")
    bale("decompress", archive, "--skip-existing", "--tensor", "w", "-o", "x").failed(2, "--skip-existing")
    assert bale("compress", source, "-p", "int8", "-o", "lossy.bale", "-q").code == 0
    assert bale("decompress", "lossy.bale", "-q", "-o", "lossy").code == 0
    bale("decompress", "lossy.bale", "-o", "lossy", "--skip-existing").failed(6, "exists already")
