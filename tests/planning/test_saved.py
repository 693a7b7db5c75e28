"""A saved plan is obeyed: `compress -r` gives the bytes that the choices it was made from give."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.errors import OutputError, UsageError
from tests.making import Raw, bf16, sha256, weights, write


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A checkpoint with odd names, tensors that are twice there or stay as they are, a base, and statistics."""
    w = weights(64, 96, seed=1)
    tensors: dict[str, Raw | np.ndarray] = {
        "w": w,
        "again": w,
        'a "name"\nwith = [everything] \x7f and ümlaut': bf16(weights(70, 64, seed=2)),
        "bias": weights(70, seed=3),
        "moments": weights(64, 96, seed=4) ** 2,
        "unrelated": weights(64, 64, seed=5),
        "ids": np.arange(500),
    }
    base: dict[str, Raw | np.ndarray] = {
        "w": w + np.float32(1e-3),
        "unrelated": weights(64, 64, seed=6),
        "bias": weights(70, seed=3),
    }
    return {
        "source": write(tmp_path / "m.safetensors", tensors),
        "base": write(tmp_path / "base.safetensors", base),
        "stats": write(tmp_path / "stats.safetensors", {"w": np.linspace(0.1, 2, 96, dtype="<f4")}),
    }


@pytest.mark.parametrize(
    ("choices", "kept"),
    [
        ({"pipeline": "int4"}, ()),
        ({"pipeline": "trellis:bits=3,pool=model"}, ()),
        ({"pipeline": "int4/exact", "rules": ["moments=positive+int8"]}, ()),
        ({"pipeline": "int4", "base": "base"}, ("base",)),
        ({"base": "base"}, ("base",)),
        ({"pipeline": "svd:rank=60+int8", "stats": "stats"}, ("stats",)),
        ({}, ()),
    ],
)
def test_the_same_bytes_come_out(
    files: dict[str, Path], tmp_path: Path, choices: dict[str, Any], kept: tuple[str, ...]
) -> None:
    choices = {key: files.get(value, value) if isinstance(value, str) else value for key, value in choices.items()}
    bale.compress(files["source"], tmp_path / "one.bale", **choices)
    planned = bale.plan(files["source"], save=tmp_path / "plan.toml", **choices).to_json()
    again = {name: files[name] for name in kept} | {"recipe": tmp_path / "plan.toml"}
    bale.compress(files["source"], tmp_path / "two.bale", **again)
    assert sha256(tmp_path / "one.bale") == sha256(tmp_path / "two.bale")
    assert _but_for_times(bale.plan(files["source"], **again).to_json()) == _but_for_times(planned)


def _but_for_times(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in document["tensors"]]


def test_a_folder_with_one_name_in_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for n in range(2):
        write(folder / f"{n}.safetensors", {"w": weights(64, 65 + n, seed=n), f"own{n}": weights(64, 64, seed=9)})
    choices = {"rules": ["w=int4", "own1=nf4"]}
    bale.compress(folder, tmp_path / "one", **choices)
    bale.plan(folder, save=tmp_path / "plan.toml", **choices)
    bale.compress(folder, tmp_path / "two", recipe=tmp_path / "plan.toml")
    for n in range(2):
        name = f"{n}.safetensors.bale"
        assert sha256(tmp_path / "one" / name) == sha256(tmp_path / "two" / name)


def test_a_choice_can_be_changed_by_hand(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    bale.plan(files["source"], pipeline="int4", save=path)
    path.write_text(path.read_text().replace('name = "w"\npipeline = "int4"', 'name = "w"\npipeline = "nf4"'))
    rows = {row.name: row for row in bale.compress(files["source"], tmp_path / "m.bale", recipe=path).rows}
    assert rows["w"].pipeline == "nf4"
    assert rows["unrelated"].pipeline == "int4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('[[tensor]]\nname = "w"', '[[tensor]]\nname = "v"'), "has no tensor w"),
        (('name = "ids"\n', 'name = "ids"\npipelin = "x"\n'), "no key 'pipelin'"),
        (('name = "w"\npipeline = "int4"', 'name = "w"'), "has no pipeline"),
        (('name = "w"\npipeline = "int4"', 'name = "w"\npipeline = "int44"'), "int44"),
        (('name = "ids"\npipeline = "lossless"', 'name = "ids"\npipeline = "int4"'), "not floating point"),
        (('name = "w"\n', 'name = "w"\nfallback = "int8"\n'), "int8 is no fallback"),
        (('name = "w"\n', 'name = "w"\nnotes = ["x"]\n'), "pairs of a kind and a text"),
        (('name = "w"\n', 'name = "w"\nfallback = 3\n'), "not a text"),
    ],
)
def test_what_is_wrong_in_one_is_said(
    files: dict[str, Path], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = tmp_path / "plan.toml"
    bale.plan(files["source"], pipeline="int4", save=path)
    before = path.read_text()
    assert change[0] in before
    path.write_text(before.replace(*change, 1))
    with pytest.raises(UsageError, match=message):
        bale.compress(files["source"], tmp_path / "m.bale", recipe=path)


def test_a_plan_of_another_source_and_choices_beside_it(files: dict[str, Path], tmp_path: Path) -> None:
    path, other = tmp_path / "plan.toml", write(tmp_path / "other.safetensors", {"w": weights(64, 96)})
    bale.plan(files["source"], pipeline="int4", save=path)
    with pytest.raises(UsageError, match="the source has none"):
        bale.compress(other, recipe=path)
    with pytest.raises(UsageError, match="a choice for every tensor"):
        bale.compress(files["source"], recipe=path, pipeline="int8")
    with pytest.raises(OutputError, match="exists"):
        bale.plan(files["source"], save=path)
    with pytest.raises(OutputError):
        bale.plan(files["source"], save=files["source"], force=True)
    bale.plan(files["source"], save=path, force=True)
    assert "int4" not in path.read_text()
    path.write_text('[[tensor]]\nname = "w"\npipeline = "int4"\n[[rule]]\nname = "w"\npipeline = "int4"\n')
    with pytest.raises(UsageError, match="has rules too"):
        bale.compress(files["source"], recipe=path)
    assert sorted(os.listdir(tmp_path)) == [
        "base.safetensors",
        "m.safetensors",
        "other.safetensors",
        "plan.toml",
        "stats.safetensors",
    ]


def test_a_plan_on_a_base_needs_it(files: dict[str, Path], tmp_path: Path) -> None:
    bale.plan(files["source"], base=files["base"], save=tmp_path / "plan.toml")
    with pytest.raises(UsageError, match="needs --base"):
        bale.compress(files["source"], recipe=tmp_path / "plan.toml")


def test_the_command_of_a_plan_can_be_given_to_a_shell(files: dict[str, Path], tmp_path: Path) -> None:
    base = files["base"].rename(tmp_path / "it's $HOME `x`.safetensors")
    rename, odd = r"re:again|(un)related$=w", "*\nwith*=w"
    path = tmp_path / "plan.toml"
    bale.plan(files["source"], base=base, rename=[rename, odd], save=path)
    (comment,) = (line for line in path.read_text().splitlines() if line.startswith("#"))
    words = shlex.split(comment.partition("THIS")[2])
    assert words == ["--base", base.name, "--rename", rename, "--rename", r"*\nwith*=w", "obeys", "it"]
    assert bale.compress(files["source"], recipe=path, base=base).exact
