"""Recipes: the choices of a command, put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from bale.errors import SourceError, UsageError
from bale.planning.budget import make_budget
from bale.planning.recipe import make_recipe


def test_order_of_lists(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[[rule]]\nname = "b"\npipeline = "int8"\n[[rule]]\nname = "c"\npipeline = "int4"\n')
    recipe = make_recipe("svd:rank=2", ("a=int8", "b=int4"), path)
    assert [[rule.pattern for rule in rules] for rules in recipe.lists] == [["a", "b"], ["b", "c"]]
    assert [rule.origin for rules in recipe.lists for rule in rules] == [
        "--rule 1",
        "--rule 2",
        "recipe rule 1",
        "recipe rule 2",
    ]
    assert str(recipe.default) == "svd:rank=2"
    assert make_recipe().lists == ()


SMALL = "preset small: bits 3.5"


def test_a_text_may_be_a_preset_and_a_path_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preset = make_recipe(recipe="small")
    assert (preset.origin, preset.path, preset.notes) == (SMALL, None, ())
    with pytest.raises(SourceError, match="cannot read the recipe small"):
        make_recipe(recipe=Path("small"))
    Path("small").write_text("[budget]\nbits = 2\n")
    for given in (Path("small"), "./small", tmp_path / "small", str(tmp_path / "small")):
        assert make_recipe(recipe=given).origin == "recipe: bits 2"
    both = make_recipe(recipe="small")
    assert both.origin == SMALL
    assert [(note.kind, note.text) for note in both.notes] == [
        ("preset", "small is the preset of this name; write ./small for the file")
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [("smal", "did you mean the preset small?"), ("Tiny", "preset tiny"), ("xyzzy", "presets are balanced, small")],
)
def test_an_unknown_name_gives_the_nearest_presets(name: str, words: str) -> None:
    with pytest.raises(SourceError, match=f"cannot read the recipe {name}") as caught:
        make_recipe(recipe=name)
    assert words in caught.value.hint
    with pytest.raises(SourceError) as caught:
        make_recipe(recipe=f"{name}.toml")
    assert "preset" not in caught.value.hint


def test_a_recipe_has_a_budget_or_the_command_has_one(tmp_path: Path) -> None:
    budget = make_budget(bits="3")
    for more in ({"pipeline": "int8"}, {"budget": budget}):
        with pytest.raises(UsageError, match=f"is for all tensors that no rule names, and so is {SMALL}"):
            make_recipe(recipe="small", **more)  # type: ignore[arg-type]
    path = tmp_path / "r.toml"
    path.write_text('[[rule]]\nname = "a"\npipeline = "int8"\n')
    assert make_recipe(recipe=path, budget=budget).budget == budget
    made = make_recipe(None, ("a=int8",), "small")
    assert ([rule.origin for rules in made.lists for rule in rules], made.origin) == (["--rule 1"], SMALL)
