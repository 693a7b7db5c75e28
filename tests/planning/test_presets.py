"""Presets: they are recipes, explained, each of them of use."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import bale
from bale.errors import UsageError
from bale.planning.presets import all_presets, find_preset
from bale.planning.recipe import make_recipe
from tests.making import weights, write

NAMES = ["balanced", "small", "tiny", "near-lossless", "training-checkpoint", "export-int4", "export-int8"]
ELEMENTS = 2 * 400 * 128 + 128 * 128 + 128 * 256  # of the matrices below
BITS = {"balanced": 4.5, "small": 3.5, "tiny": 2.5, "near-lossless": 6.5}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = {
        "model.embed_tokens.weight": weights(400, 128, seed=1),
        "model.layers.0.mlp.up_proj.weight": weights(128, 128, seed=2),
        "model.layers.0.mlp.down_proj.weight": weights(128, 256, seed=3),
        "model.norm.weight": weights(128, seed=4),
        "lm_head.weight": weights(400, 128, seed=5),
    }
    return write(tmp_path / "m.safetensors", model)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 128), torch.nn.ReLU(), torch.nn.Linear(128, 96))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(32, 96)).square().mean().backward()
        optimizer.step()
    path = tmp_path / "training.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def test_the_folder_holds_what_is_listed() -> None:
    assert [preset.name for preset in all_presets()] == NAMES
    folder = all_presets()[0].path.parent
    assert {path.stem for path in folder.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_for_and_what_it_risks(name: str) -> None:
    preset = find_preset(name)
    assert preset.text.startswith(f"# {preset.summary}\n")
    assert "# Risk: " in preset.text
    assert all(line.isprintable() and len(line) <= 120 for line in preset.text.splitlines())
    tomllib.loads(preset.text)
    if name != "training-checkpoint":
        assert "Weight error is not model quality" in preset.text.replace("\n# ", " ")


def test_there_is_no_other() -> None:
    with pytest.raises(UsageError, match="there is no preset 'smal'; did you mean the preset small"):
        find_preset("smal")


@pytest.mark.parametrize("name", BITS)
def test_budgets_are_those_of_their_names(name: str) -> None:
    made = make_recipe(recipe=name)
    assert made.origin == f"preset {name}: bits {BITS[name]}"
    assert made.lists == ()


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_a_model(checkpoint: Path, name: str) -> None:
    report = bale.compress(checkpoint, f"{checkpoint}.bale", recipe=name)
    rows = {row.name: row for row in report.rows}
    planned = bale.plan(checkpoint, recipe=name).to_json()
    assert {row["name"]: row["pipeline"] for row in planned["tensors"]} == {
        each: str(row.pipeline) for each, row in rows.items()
    }
    assert str(rows["model.norm.weight"].pipeline) == "lossless"
    lossy = [row for row in rows.values() if str(row.pipeline) != "lossless"]
    assert len(lossy) == (0 if name == "training-checkpoint" else 2 if name.startswith("export") else 4)
    if name in BITS:
        assert {row.rule for row in lossy} == {f"preset {name}: bits {BITS[name]}"}
        stored = 8 * sum(row.stored_bytes for row in lossy) / ELEMENTS
        assert BITS[name] - 0.2 < stored <= BITS[name]
    if name.startswith("export"):
        assert {row.name for row in lossy} == {f"model.layers.0.mlp.{side}_proj.weight" for side in ("up", "down")}


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_a_training_checkpoint(training: Path, name: str) -> None:
    import torch

    archive = training.with_name("t.bale")
    report = bale.compress(training, archive, recipe=name)
    lossy = {row.name for row in report.rows if str(row.pipeline) != "lossless"}
    assert lossy
    if name == "training-checkpoint":
        assert lossy == {f"optimizer.state.{at}.{kind}" for at in (0, 2) for kind in ("exp_avg", "exp_avg_sq")}
    if name.startswith("export"):
        assert lossy == {"model.0.weight", "model.2.weight"}
    restored = training.with_name("restored.pt")
    bale.decompress(archive, restored)
    back, before = (torch.load(path, weights_only=True) for path in (restored, training))
    for at, state in back["optimizer"]["state"].items():
        assert torch.equal(state["step"], before["optimizer"]["state"][at]["step"])
        was = before["optimizer"]["state"][at]["exp_avg_sq"]
        assert bool(((state["exp_avg_sq"] > 0) == (was > 0)).all())


def test_the_next_updates_hardly_move(training: Path) -> None:
    """What the preset for training is made for: a moment divided by the root of the other."""
    import torch

    restored = training.with_name("restored.pt")
    bale.compress(training, training.with_name("t.bale"), recipe="training-checkpoint")
    bale.decompress(training.with_name("t.bale"), restored)

    def updates(path: Path) -> torch.Tensor:
        states = torch.load(path, weights_only=True)["optimizer"]["state"].values()
        return torch.cat([(each["exp_avg"] / (each["exp_avg_sq"].sqrt() + 1e-8)).flatten() for each in states])

    before, after = updates(training), updates(restored)
    assert float((after - before).norm() / before.norm()) < 0.05
    assert float(after.abs().max() / before.abs().max()) < 1.1
