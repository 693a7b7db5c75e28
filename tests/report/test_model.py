"""The report against its schema, the files on disk, and an independent measurement of its errors."""

from __future__ import annotations

import json
import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from safetensors import safe_open

import bale
from bale.cli.compress import lines
from bale.notes import KINDS
from tests.making import Raw, bf16, sha256, weights, write

SCHEMA = json.loads(files("bale").joinpath("report.schema.json").read_text())
PAGE = Path(__file__).parents[2] / "docs" / "report.md"
TOP = ["schema", "verified", "tool", "source", "archive", "stats", "totals", "tensors", "notes", "note_kinds"]
TOTALS = [
    "original_bytes",
    "stored_bytes",
    "overhead_bytes",
    "ratio",
    "weights",
    "bits_per_weight",
    "relative_error",
    "snr_db",
    "lossy",
    "all_weights",
    "output_error",
    "coverage",
]
ROW = [
    "name",
    "file",
    "shape",
    "dtype",
    "pipeline",
    "rule",
    "original_bytes",
    "stored_bytes",
    "parts",
    "same_as",
    "bits_per_weight",
    "relative_error",
    "snr_db",
    "max_abs_error",
    "cosine",
    "worst_row_error",
    "output_error",
    "seconds",
    "notes",
    "note_kinds",
]


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    shared = weights(64, 64, seed=1)
    bad = weights(64, 64, seed=2)
    bad[0, 0] = np.nan
    return write(
        tmp_path / "mixed.safetensors",
        {
            "int": bf16(weights(64, 128, seed=3)),
            "low": weights(48, 2) @ weights(2, 48),
            "bias": weights(64, seed=4),
            "ids": np.arange(1000),
            "shared": shared,
            "again": shared,
            "bad": bad,
            "zero": np.zeros((64, 64), "<f4"),
            "empty": Raw("F32", (0,), b""),
            "scalar": Raw("BF16", (), b"\0\x3f"),
        },
    )


def compress(source: Path) -> tuple[dict[str, Any], Path]:
    bale.compress(source, f"{source}.bale", pipeline="int4", rules=["low=svd:rank=2"])
    archive = source.with_name(source.name + ".bale")
    return strict(archive.with_name(archive.name + ".report.json").read_text()), archive


def test_keys_stand_in_the_fixed_order(mixed: Path) -> None:
    document, _ = compress(mixed)
    assert list(document) == TOP
    assert list(document["tool"]) == ["name", "version", "format_version"]
    assert list(document["source"]) == ["name", "kind", "bytes", "sha256"]
    assert list(document["archive"]) == ["name", "bytes", "sha256", "manifest"]
    assert list(document["totals"]) == TOTALS
    assert all(list(row) == ROW for row in document["tensors"])


def test_it_holds_to_the_schema(mixed: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document, archive = compress(mixed)
    jsonschema.validate(document, SCHEMA)
    jsonschema.validate(bale.inspect(archive), SCHEMA)
    for key in TOP:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({other: value for other, value in document.items() if other != key}, SCHEMA)


def bytes_in(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def test_a_folder_holds_to_the_schema(tmp_path: Path, mixed: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    mixed.rename(folder / "a.safetensors")
    write(folder / "sub" / "b.safetensors", {"w": weights(64, 64)})
    (folder / "README.md").write_text("read me")
    report = bale.compress(folder, pipeline="int8")
    document = report.to_json()
    jsonschema.validate(document, SCHEMA)
    assert list(document) == [*TOP, "files", "side_bytes", "copied"]
    assert document["source"]["sha256"] is None
    assert document["side_bytes"] == 7
    assert document["copied"] == {"files": 1, "bytes": 7, "largest": "README.md", "largest_bytes": 7, "marked": None}
    assert [file["source"]["name"] for file in document["files"]] == ["a.safetensors", "sub/b.safetensors"]
    totals, out = document["totals"], tmp_path / "model.lossy.bale"
    assert totals["stored_bytes"] == document["archive"]["bytes"] == bytes_in(out)
    assert totals["original_bytes"] == document["source"]["bytes"] == bytes_in(folder)
    parts = sum(row["stored_bytes"] for row in document["tensors"])
    assert parts + document["side_bytes"] + totals["overhead_bytes"] == totals["stored_bytes"]
    before, after = bytes_in(folder, "*.safetensors"), bytes_in(out, "*.bale")
    assert totals["weights"] == {"original_bytes": before, "stored_bytes": after, "ratio": before / after}
    assert totals["bits_per_weight"] == 8 * after / sum(row.spec.elements for row in report.rows if not row.same_as)
    rebuilt = bale.inspect(tmp_path / "model.lossy.bale")
    jsonschema.validate(rebuilt, SCHEMA)
    for key in ("totals", "side_bytes", "copied", "source", "archive", "notes"):
        assert rebuilt[key] == document[key]
    assert [row["file"] for row in rebuilt["tensors"]] == [row["file"] for row in document["tensors"]]


def test_sizes_add_up_to_the_file_on_disk(mixed: Path) -> None:
    document, archive = compress(mixed)
    totals, rows = document["totals"], document["tensors"]
    assert totals["stored_bytes"] == document["archive"]["bytes"] == archive.stat().st_size
    assert totals["original_bytes"] == document["source"]["bytes"] == mixed.stat().st_size
    assert totals["weights"] == {key: totals[key] for key in ("original_bytes", "stored_bytes", "ratio")}
    assert all(row["stored_bytes"] == sum(row["parts"].values()) for row in rows)
    assert sum(row["stored_bytes"] for row in rows) + totals["overhead_bytes"] == archive.stat().st_size
    assert totals["ratio"] == pytest.approx(mixed.stat().st_size / archive.stat().st_size)
    assert sum(each["stored_bytes"] for each in totals["coverage"].values()) + totals["overhead_bytes"] == (
        archive.stat().st_size
    )
    assert sum(each["tensors"] for each in totals["coverage"].values()) == len(rows) - 1  # one of them is shared
    with safe_open(archive, framework="np") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in file.offset_keys()}
    for row in rows:
        for part, size in row["parts"].items():
            if row["pipeline"] != "lossless" and part in ("qdata", "data"):
                assert sizes[f"{row['name']}:{part}"] == size


def test_digests(mixed: Path) -> None:
    document, archive = compress(mixed)
    assert document["source"]["sha256"] == sha256(mixed)
    assert document["archive"]["sha256"] == sha256(archive)


def test_errors_are_those_that_anybody_measures(mixed: Path) -> None:
    """Source and restored file, read by safetensors, in float64."""
    document, archive = compress(mixed)
    back = mixed.with_name("back.safetensors")
    bale.decompress(archive, back)
    sums: dict[str, tuple[float, float]] = {}
    with safe_open(mixed, framework="pt") as before, safe_open(back, framework="pt") as after:
        for row in document["tensors"]:
            x = before.get_tensor(row["name"]).double().numpy().ravel()
            y = after.get_tensor(row["name"]).double().numpy().ravel()
            if np.array_equal(x, y, equal_nan=True):
                assert (row["relative_error"], row["max_abs_error"], row["snr_db"]) == (0, 0, None)
                assert row["cosine"] == 1 or row["name"] == "zero"
            else:
                relative = np.linalg.norm(x - y) / np.linalg.norm(x)
                assert row["relative_error"] == pytest.approx(relative, rel=1e-6)
                assert row["snr_db"] == pytest.approx(-20 * math.log10(relative), rel=1e-6)
                assert row["max_abs_error"] == pytest.approx(np.abs(x - y).max(), rel=1e-6)
                assert row["cosine"] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-6)
            if row["dtype"] != "I64" and row["same_as"] is None and np.isfinite(x).all():
                sums[row["name"]] = float(((x - y) ** 2).sum()), float((x**2).sum())
    assert {row["name"] for row in document["tensors"] if row["relative_error"]} == {"int", "low", "shared", "again"}
    totals = document["totals"]
    lossy = [sums[name] for name in ("int", "low", "shared")]
    for key, found in ((totals, lossy), (totals["lossy"], lossy), (totals["all_weights"], sums.values())):
        error2, norm2 = (sum(column) for column in zip(*found, strict=True))
        assert key["relative_error"] == pytest.approx(math.sqrt(error2 / norm2), rel=1e-6)
    assert totals["all_weights"]["relative_error"] < totals["lossy"]["relative_error"]
    worst = max(document["tensors"], key=lambda row: row["relative_error"])
    assert (totals["lossy"]["worst_tensor"], totals["lossy"]["worst_relative_error"]) == (
        worst["name"],
        worst["relative_error"],
    )
    assert totals["lossy"]["tensors"] == 4  # zeros came back as they were, but by chance


def test_shared_tensors(mixed: Path) -> None:
    rows = {row["name"]: row for row in compress(mixed)[0]["tensors"]}
    assert rows["again"]["same_as"] == "shared"
    assert (rows["again"]["parts"], rows["again"]["stored_bytes"], rows["again"]["bits_per_weight"]) == ({}, 0, 0)
    assert rows["again"]["relative_error"] == rows["shared"]["relative_error"]


def test_without_loss_nothing_is_measured(mixed: Path) -> None:
    document = bale.compress(mixed).to_json()
    assert (document["totals"]["relative_error"], document["totals"]["snr_db"]) == (0, None)
    assert {row["relative_error"] for row in document["tensors"]} == {0}
    assert {row["cosine"] for row in document["tensors"]} == {1}


def test_bits_a_weight_are_for_what_is_mostly_weights(tmp_path: Path) -> None:
    """The key of the document stays."""
    torch = pytest.importorskip("torch")
    torch.save({"v": torch.zeros(10_000)[:10]}, tmp_path / "view.pt")
    write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    (tmp_path / "other.bin").write_bytes(bytes(10_000))
    for name, expected in (("view.pt", False), ("m.safetensors", True), ("other.bin", False)):
        report = bale.compress(tmp_path / name)
        assert report.is_weights == expected
        assert report.totals["bits_per_weight"] > 0
        (first, *_) = lines(report, tmp_path / name)
        assert ("bits a weight" in first) == expected


def test_expanded_tensors_count_as_they_are(tmp_path: Path) -> None:
    """In sums: the row of the tensor has what its shape says."""
    torch = pytest.importorskip("torch")
    torch.save({"e": torch.ones(64, 1).expand(64, 512)}, tmp_path / "e.pt")
    report = bale.compress(tmp_path / "e.pt").to_json()
    planned = bale.plan(tmp_path / "e.pt").to_json()
    for document in (report, planned):
        assert document["totals"]["coverage"]["lossless"]["original_bytes"] == 256
        assert document["tensors"][0]["original_bytes"] == 64 * 512 * 4


def test_every_kind_of_note_is_described() -> None:
    page = PAGE.read_text()
    assert all(f"| `{name}` | {kind.meaning} |" in page for name, kind in KINDS.items())
    assert len(re.findall(r"^\| `[a-z0-9-]+` \| .* \|$", page.partition("## Kinds of notes")[2], re.MULTILINE)) == len(
        KINDS
    )


def test_every_key_is_described() -> None:
    described = set(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE))
    found = {key for cell in described for key in re.findall(r"`(\w+)`", cell)}
    assert {*TOP, *TOTALS, *ROW, "files", "side_bytes", "copied"} <= found
