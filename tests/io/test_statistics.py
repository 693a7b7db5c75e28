"""Files of statistics: what is taken for one, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.statistics import open_statistics_file
from tests.making import Raw, weights, write


def test_means_and_covariances_by_the_name_of_their_tensor(tmp_path: Path) -> None:
    mean, covariance = np.arange(3, dtype="<f4"), np.arange(9, dtype="<f4").reshape(3, 3)
    path = write(tmp_path / "s", {"a:b": mean, "a:b:covariance": covariance}, {"bale.stats": "1", "samples": "7"})
    with open_statistics_file(path) as file:
        assert list(file.means) == list(file.covariances) == ["a:b"]
        assert file.covariances["a:b"].name == "a:b:covariance"
        np.testing.assert_array_equal(file.read(file.means["a:b"]), mean)
        np.testing.assert_array_equal(file.read(file.covariances["a:b"]), covariance)
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_storage_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "s", {"a": Raw("BF16", (1, 2), b"\x80\x3f\0\x40"), "b": np.float32([])})
    with open_statistics_file(path) as file:
        np.testing.assert_array_equal(file.read(file.means["a"]), np.uint16([[0x3F80, 0x4000]]))
        assert file.read(file.means["b"]).shape == (0,)


def test_what_is_none(tmp_path: Path) -> None:
    sound = write(tmp_path / "sound", {"a": weights(4)})
    (tmp_path / "cut").write_bytes(sound.read_bytes()[:-1])
    (tmp_path / "text").write_text("mean squares: 1, 2, 3, and so on to the end of the line")
    (tmp_path / "empty").touch()
    write(tmp_path / "newer", {"a": weights(4)}, {"bale.stats": "2"})
    write(tmp_path / "bale", {"a": weights(4)}, {"bale": "1.0"})
    for name, words in {
        "cut": "no sound safetensors file",
        "text": "no sound safetensors file",
        "empty": "no sound safetensors file",
        "newer": "version 2, this bale reads 1",
        "bale": "are a bale",
        "missing": "no such file",
        ".": "not a regular file",
    }.items():
        with pytest.raises(SourceError, match=words), open_statistics_file(tmp_path / name):
            pass
