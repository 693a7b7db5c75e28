"""Recipes and presets on the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bale.planning.presets import all_presets
from tests.cli.conftest import Bale

NAMES = [preset.name for preset in all_presets()]


def test_the_list(bale: Bale) -> None:
    said = bale("recipes")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[1 : 1 + len(NAMES)]] == NAMES
    assert "not model quality" in said.out
    listed = bale("recipes", "--json").json
    assert [entry["name"] for entry in listed] == NAMES
    assert all(set(entry) == {"name", "summary"} for entry in listed)


@pytest.mark.parametrize("name", NAMES)
def test_one_is_printed_to_be_edited(bale: Bale, model: Path, name: str) -> None:
    said = bale("recipes", "show", name)
    assert (said.code, said.err) == (0, "")
    shown = bale("recipes", "show", name, "--json").json
    assert shown["text"] == said.out
    assert said.out.startswith(f"# {shown['summary']}\n")
    tomllib.loads(said.out)
    path = model.with_name("mine.toml")
    path.write_text(said.out)
    by_name, by_file = (bale("plan", model, "-r", recipe, "--json").json["tensors"] for recipe in (name, path))
    assert [row["pipeline"] for row in by_name] == [row["pipeline"] for row in by_file]


def test_words_that_say_nothing(bale: Bale) -> None:
    bale("recipes", "small").failed(2, "bale recipes show small")
    bale("recipes", "list").failed(2, "bale recipes show NAME")
    bale("recipes", "show").failed(2, "NAME")
    bale("recipes", "show", "smal").failed(2, "did you mean the preset small?")
    bale("presets").failed(2, "did you mean `bale recipes`?")


def test_a_preset_by_its_name(bale: Bale, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    said = bale("compress", model, "-r", "small", "--json")
    rules = {row["rule"] for row in said.result["tensors"] if row["pipeline"] != "lossless"}
    assert rules == {"preset small: bits 3.5"}
    Path("small").write_text('[[rule]]\nname = "embed*"\npipeline = "int8"\n')
    both = bale("compress", model, "-r", "small", "-f")
    assert "bale: note: small is the preset of this name; write ./small for the file" in both.err
    assert "int8" in bale("compress", model, "-r", "./small", "-f").out
    bale("plan", model, "-r", "smal").failed(3, "cannot read the recipe smal", "did you mean the preset small?")
    bale("plan", model, "-r", "").failed(2, "empty path")


def test_a_plan_by_a_preset_is_saved_and_obeyed(bale: Bale, model: Path) -> None:
    plan = model.with_name("plan.toml")
    assert bale("plan", model, "-r", "small", "--save", plan).code == 0
    assert bale("compress", model, "-r", "small", "-q").code == 0
    archive = model.with_name("model.lossy.safetensors.bale")
    first = archive.read_bytes()
    assert bale("compress", model, "-r", plan, "-q", "-f").code == 0
    assert archive.read_bytes() == first


def test_a_budget_stands_alone(bale: Bale, model: Path) -> None:
    for options in (["-p", "int8"], ["--bits", "3"], ["--max-size", "50%"]):
        bale("compress", model, "-r", "small", *options).failed(2, "and so is preset small: bits 3.5")


def test_budgets_of_a_recipe_are_those_of_the_options(bale: Bale, model: Path) -> None:
    recipe = model.with_name("r.toml")
    for option, text in (("--max-size", 'max_size = "35%"'), ("--mean-error", "mean_error = 0.05")):
        recipe.write_text(f"[budget]\n{text}\n")
        value = text.partition(" = ")[2].strip('"')
        asked, read = (
            bale("compress", model, *options, "-f", "--json").result
            for options in ((option, value), ("-r", str(recipe)))
        )
        assert [row["pipeline"] for row in asked["tensors"]] == [row["pipeline"] for row in read["tensors"]]
        assert asked["totals"]["lossy"] == read["totals"]["lossy"]


def test_rules_meet_their_budgets_apart(bale: Bale, model: Path) -> None:
    recipe = model.with_name("r.toml")
    recipe.write_text(
        '[[rule]]\nname = "layers.*.weight"\nbits = 3\n[[rule]]\nname = "embed*"\nmean_error = 0.05\n'
        "[budget]\nbits = 5\n"
    )
    said = bale("compress", model, "-r", recipe, "--json", "--allow-unmatched").result
    rows = {row["name"]: row for row in said["tensors"]}
    layers = [rows[f"layers.{number}.weight"] for number in (1, 10)]
    stored = 8 * sum(row["stored_bytes"] for row in layers) / (64 * 128 + 96 * 64)
    assert 2.8 < stored <= 3
    assert 0.045 < rows["embed.weight"]["relative_error"] <= 0.05
    assert rows["embed.weight"]["rule"] == "recipe rule 2: embed*: mean_error 0.05"


def test_a_size_holds_with_rules_that_have_budgets(bale: Bale, model: Path) -> None:
    recipe = model.with_name("r.toml")
    recipe.write_text('[[rule]]\nname = "embed*"\nbits = 6\n[budget]\nmax_size = "30%"\n')
    archive = model.with_name("out.bale")
    said = bale("compress", model, "-r", recipe, "-o", archive, "--json").result
    assert archive.stat().st_size <= 0.3 * model.stat().st_size
    rows = {row["name"]: row for row in said["tensors"]}
    assert 5.5 < 8 * rows["embed.weight"]["stored_bytes"] / 6400 <= 6
    recipe.write_text('[[rule]]\nname = "embed*"\nbits = 6\n[budget]\nmax_size = "3%"\n')
    bale("compress", model, "-r", recipe, "-f").failed(2, "recipe: max_size 3% cannot be met")


def test_errors_name_file_and_line(bale: Bale, model: Path) -> None:
    recipe = model.with_name("r.toml")
    recipe.write_text('[[rule]]\nname = "*"\npipeline = "int8"\n\n[[rule]]\nnmae = "x"\n')
    for verb in ("compress", "plan"):
        bale(verb, model, "-r", recipe).failed(2, f"{recipe}:6: rule 2: there is no key 'nmae'; did you mean 'name'?")
