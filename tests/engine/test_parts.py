"""The parts of a tensor, as `bale.open(...).parts` hands them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import ArchiveError
from tests.making import bf16, weights, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = {
        "w": weights(70, 90, seed=1),
        "tied": weights(70, 90, seed=1),
        "half": bf16(weights(64, 96, seed=2)),
        "kernel": weights(640, 9, seed=5).reshape(64, 10, 3, 3),
        "steps": np.arange(3),
    }
    return write(tmp_path_factory.mktemp("parts") / "m.safetensors", tensors)


def opened(source: Path, tmp_path: Path, pipeline: str, **choices: object) -> bale.engine.reading.archives.Archives:
    bale.compress(source, tmp_path / "m.bale", pipeline=pipeline, force=True)
    return bale.open(tmp_path / "m.bale", **choices)


@pytest.mark.parametrize("pipeline", ["svd:rank=5", "svd:rank=5+int8", "svd:rank=5+int8/int4"])
def test_factors_are_those_of_the_tensor(source: Path, tmp_path: Path, pipeline: str) -> None:
    with opened(source, tmp_path, pipeline, layers=1) as tensors:
        for name in ("w", "tied", "half", "kernel"):
            parts = tensors.parts(name)
            assert list(parts) == ["u", "vh"]
            u, vh = (part.astype(np.float32) for part in parts.values())
            assert u.shape[1] == vh.shape[0] == 5
            whole = tensors[name].astype(np.float32)
            assert np.abs(u @ vh - whole.reshape(len(u), -1)).max() <= 2**-7 * np.abs(whole).max()
        assert tensors.parts("half")["u"].dtype.name == "bfloat16"
        assert tensors.parts("steps")["data"].tolist() == [0, 1, 2]
    with bale.open(tmp_path / "m.bale") as tensors:
        names = ["rest.qdata", "rest.scale", "rest.zero"] if "/" in pipeline else []
        assert list(tensors.parts("w")) == ["u", "vh", *names]


def test_other_codecs(source: Path, tmp_path: Path) -> None:
    with opened(source, tmp_path, "int8") as tensors:
        parts = tensors.parts("w")
        assert {name: part.shape for name, part in parts.items()} == {"qdata": (70, 90), "scale": (70,), "zero": (70,)}
    with opened(source, tmp_path, "svd:rank=3/exact") as tensors:
        assert list(tensors.parts("w")) == ["u", "vh"]
        assert (tensors["w"] == weights(70, 90, seed=1)).all()
    bale.compress(source, tmp_path / "k.bale", rules=["kernel=tucker:ranks=8-4-3-3+int8"])
    with bale.open(tmp_path / "k.bale") as tensors:
        parts = tensors.parts("kernel")
        assert {name: part.shape for name, part in parts.items()} == {
            "core": (8, 4, 3, 3),
            "u0": (64, 8),
            "u1": (10, 4),
        }
        with pytest.raises(KeyError):
            tensors.parts("nothing")


def test_differences(source: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", {"w": weights(70, 90, seed=1) * np.float32(1.001)})
    for pipeline, names in (("svd:rank=2", ["rest.u", "rest.vh"]), (None, [])):
        bale.compress(other, tmp_path / "d.bale", pipeline=pipeline, base=source, force=True)
        with bale.open(tmp_path / "d.bale", base=source) as tensors:
            assert list(tensors.parts("w")) == names


def test_damage_is_found(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "m.bale", pipeline="svd:rank=5+int8")
    data = bytearray((tmp_path / "m.bale").read_bytes())
    room = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + room])["w:u.qdata"]
    data[8 + room + entry["data_offsets"][0]] ^= 1
    (tmp_path / "m.bale").write_bytes(data)
    with bale.open(tmp_path / "m.bale") as tensors:
        tensors.parts("half")
        with pytest.raises(ArchiveError, match="w"):
            tensors.parts("w")
