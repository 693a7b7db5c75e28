"""What is said to be verified can be read: nothing is written that a reader refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.quantizers.linear import Int
from bale.errors import OutputError, UsageError
from bale.planning import saved
from tests.making import names_in, sha256, weights, write


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint, and a base that has one of its tensors, one that is unrelated, and not the third."""
    w = weights(64, 96, seed=1)
    source = write(
        tmp_path / "m.safetensors", {"w": w, "other": weights(64, 96, seed=2), "new": weights(64, 70, seed=3)}
    )
    base = {"w": w + np.float32(1e-3), "other": weights(64, 96, seed=9)}
    return source, write(tmp_path / "base.safetensors", base)


@pytest.mark.parametrize("pipeline", ["base/exact", "base/int8"])
def test_a_base_that_is_asked_for_and_of_no_use(files: tuple[Path, Path], tmp_path: Path, pipeline: str) -> None:
    source, base = files
    choices = {"rules": [f"*={pipeline}"], "base": base}
    planned = bale.plan(source, **choices).to_json()
    done = bale.compress(source, tmp_path / "m.bale", **choices).to_json()
    rows = {row["name"]: row for row in done["tensors"]}
    assert rows["w"]["pipeline"] == pipeline
    assert rows["w"]["note_kinds"] == []
    assert rows["other"]["note_kinds"] == ["reference-unused"]
    assert "no-reference" in rows["new"]["note_kinds"]
    for row, expected in zip(done["tensors"], planned["tensors"], strict=True):
        assert (row["pipeline"], row["notes"]) == (expected["pipeline"], expected["notes"])
    bale.verify(tmp_path / "m.bale", source, base=base)
    bale.decompress(tmp_path / "m.bale", tmp_path / "back", base=base)
    assert pipeline != "base/exact" or sha256(tmp_path / "back") == sha256(source)


def test_a_codec_that_says_lossless_and_is_not_is_found(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decoder gives back what its encoder made of the values: only the source tells."""
    monkeypatch.setattr(Int, "lossless", True)
    before = names_in(tmp_path)
    with pytest.raises(OutputError, match="int4 is lossless, and gave other values back"):
        bale.compress(files[0], tmp_path / "m.bale", rules=["w=int4"])
    assert names_in(tmp_path) == before


def test_an_archive_that_readers_refuse_is_not_written(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names_in(tmp_path)
    import bale.engine.reading.decode as decode

    honest = decode._check_parts

    def refusing(*arguments: object) -> None:
        honest(*arguments)  # type: ignore[arg-type]
        raise bale.errors.ArchiveError("w has a part 'g' that does not fit", "fetch it again")

    monkeypatch.setattr(decode, "_check_parts", refusing)
    with pytest.raises(OutputError, match="no reader would take the archive: w has a part"):
        bale.compress(files[0], tmp_path / "m.bale")
    assert names_in(tmp_path) == before


def test_a_saved_plan_has_a_fallback_that_takes_anything(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    bale.plan(files[0], pipeline="int8", save=path)
    for fallback in ("base/exact", "int4/exact", "int8"):
        path.write_text(path.read_text().replace('rule = "-p int8"\n', f'rule = "x"\nfallback = "{fallback}"\n', 1))
        with pytest.raises(UsageError, match="is no fallback"):
            bale.compress(files[0], recipe=path)
        bale.plan(files[0], pipeline="int8", save=path, force=True)
    with pytest.raises(UsageError, match="uses no base"):
        bale.compress(files[0], recipe=path, base=files[1])


def test_where_a_plan_is_saved(files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shard = write(folder / "a.safetensors", {"w": weights(64, 96)})
    digest = sha256(shard)
    for save in (shard, files[1]):
        with pytest.raises(OutputError, match="input") as caught:
            bale.plan(folder, save=save, force=True, base=files[1])
        assert "--save" in (caught.value.hint or "")
    assert sha256(shard) == digest
    odd = write(tmp_path / "x\x01\n\udcff.safetensors", {"w": weights(64, 96)})
    bale.plan(odd, pipeline="int4", save=tmp_path / "odd.toml")
    bale.compress(odd, tmp_path / "odd.bale", recipe=tmp_path / "odd.toml")
    empty = write(tmp_path / "empty.safetensors", {})
    bale.plan(empty, save=tmp_path / "empty.toml")
    bale.compress(empty, tmp_path / "empty.bale", recipe=tmp_path / "empty.toml")
    assert saved.plan_text("x", []).endswith("tensor = []\n")
