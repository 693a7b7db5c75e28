"""Decisions: precedence, what is refused, what is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from bale.errors import UsageError
from bale.notes import Note
from bale.planning.decide import Plan, make_plan
from bale.planning.recipe import make_recipe
from bale.spec import TensorSpec, Unit, View

WEIGHT = TensorSpec("BF16", (64, 64))


def units(**specs: TensorSpec) -> tuple[Unit, ...]:
    return tuple(
        Unit(at << 20, spec, (View(name.replace("__", "."), spec),)) for at, (name, spec) in enumerate(specs.items())
    )


def plan(given: tuple[Unit, ...], pipeline: str | None = None, *rules: str, **more: object) -> Plan:
    return make_plan([given], make_recipe(pipeline, rules, **more))  # type: ignore[arg-type]


def chosen(made: Plan) -> list[str]:
    return [str(decision.pipeline) for file in made.files for decision in file.decisions]


def recipe(folder: Path, *rules: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text("\n".join(f"[[rule]]\n{rule}" for rule in rules))
    return path


def test_without_choices_all_is_lossless() -> None:
    made = plan(units(a=WEIGHT, b=TensorSpec("I64", (3,))))
    assert chosen(made) == ["lossless", "lossless"]
    assert {decision.rule for decision in made.files[0].decisions} == {"default"}
    assert made.files[0].lossless
    assert made.notes == ()


def test_precedence(tmp_path: Path) -> None:
    """`--rule` in order, then the recipe's rules, then `-p`; within a list the first match wins."""
    path = recipe(
        tmp_path,
        'name = "a"\npipeline = "int4"',
        'name = "b"\npipeline = "int8"',
        "name = '*'\npipeline = 'int:bits=6'\nmax_ndim = 2",
    )
    given = units(a=WEIGHT, b=WEIGHT, c=WEIGHT, d=TensorSpec("BF16", (4, 4, 4, 64)))
    made = plan(given, "int:bits=3", "a=int:bits=5", recipe=path)
    assert chosen(made) == ["int:bits=5", "int8", "int:bits=6", "int:bits=3"]
    assert [decision.rule.split(":")[0] for decision in made.files[0].decisions] == [
        "--rule 1",
        "recipe rule 2",
        "recipe rule 3",
        "-p int",
    ]


def test_the_first_match_wins() -> None:
    assert chosen(plan(units(a=WEIGHT, b=WEIGHT), None, "a=int8", "*=int4")) == ["int8", "int4"]


def test_layers_1_is_not_layers_10() -> None:
    given = units(layers__1__w=WEIGHT, layers__10__w=WEIGHT)
    assert chosen(plan(given, None, "layers.1.*=int8")) == ["int8", "lossless"]
    assert chosen(plan(given, None, "layers.1*=int8")) == ["int8", "int8"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (("x=int8",), "--rule 1: x=int8 matches no tensor"),
        (("a=int8", "x*=int4"), "--rule 2: x*=int4 matches no tensor"),
        (("*=int8", "a=int4"), "--rule 2: a=int4 is wholly shadowed by --rule 1"),
        (("a=int8", "b=int8", "[ab]=int4"), "--rule 3: [ab]=int4 is wholly shadowed by"),
    ],
)
def test_rules_that_do_nothing(rules: tuple[str, ...], words: str) -> None:
    given = units(a=WEIGHT, b=WEIGHT)
    with pytest.raises(UsageError) as caught:
        plan(given, None, *rules)
    assert words in caught.value.message
    assert "--allow-unmatched" in caught.value.hint
    made = plan(given, None, *rules, allow_unmatched=True)
    assert any(words in note.text for note in made.notes)


def test_rules_of_another_list_may_be_shadowed(tmp_path: Path) -> None:
    """A rule on the command line that overrides the recipe wholly is what one wants."""
    path = recipe(tmp_path, 'name = "a"\npipeline = "int4"')
    assert chosen(plan(units(a=WEIGHT), None, "*=int8", recipe=path)) == ["int8"]


def test_optional_rules_may_match_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'name = "x"\npipeline = "int4"\noptional = true', 'name = "a"\npipeline = "int8"')
    made = plan(units(a=WEIGHT), None, recipe=path)
    assert chosen(made) == ["int8"]
    assert len(made.notes) == 1
    assert "recipe rule 1" in made.notes[0].text


def test_rules_are_checked_against_all_files_together() -> None:
    made = make_plan([units(a=WEIGHT), units(b=WEIGHT)], make_recipe(None, ("a=int8", "b=int4")))
    assert chosen(made) == ["int8", "int4"]


def test_what_p_leaves_alone_and_why() -> None:
    given = units(
        matrix=WEIGHT,
        vector=TensorSpec("BF16", (5000,)),
        small=TensorSpec("BF16", (63, 65)),
        number=TensorSpec("I32", (64, 64)),
        packed=TensorSpec("F4", (128, 64)),
        double=TensorSpec("F64", (64, 64)),
        tiny=TensorSpec("F8_E4M3", (64, 64)),
        complex=TensorSpec("C64", (64, 64)),
    )
    made = plan(given, "int8")
    found = dict(zip((unit.views[0].name for unit in given), made.files[0].decisions, strict=True))
    taken = {name for name, decision in found.items() if str(decision.pipeline) == "int8"}
    assert taken == {"matrix", "double", "tiny"}
    for name, word in (
        ("vector", "fewer than 2"),
        ("small", "4095 elements"),
        ("number", "not floating point"),
        ("packed", "quantized already"),
        ("complex", "not floating point"),
    ):
        assert word in found[name].notes[0].text
    assert not made.files[0].lossless


def test_p_that_touches_nothing_is_a_note() -> None:
    made = plan(units(a=TensorSpec("F32", (10,))), "int8")
    assert chosen(made) == ["lossless"]
    assert "touches no tensor: it takes floating-point weights of at least 2 dim" in made.notes[0].text


def test_p_that_touches_nothing_says_why() -> None:
    """The reason of each tensor that it leaves alone, not always the rule of sizes."""
    (overlapping,) = units(qkv=WEIGHT)
    (other,) = units(v=WEIGHT)
    overlapping, other = (unit._replace(exact="tensors overlap in it") for unit in (overlapping, other))
    (norm,) = units(norm=TensorSpec("F32", (10,)))
    start = "-p int8 touches no tensor: "
    assert plan([overlapping], "int8").notes[0].text == start + "tensors overlap in it (qkv)"
    assert plan([overlapping, norm, other], "int8").notes[0].text == (
        start + "tensors overlap in it (qkv and 1 more); fewer than 2 dimensions or 4,096 elements (norm)"
    )
    assert plan([], "int8").notes[0].text == start + "there is none"


def test_a_lossless_p_takes_everything() -> None:
    assert chosen(plan(units(a=WEIGHT, b=TensorSpec("I8", (3,))), "zstd")) == ["zstd", "zstd"]


def test_a_rule_overrides_size_and_rank_but_not_dtype() -> None:
    given = units(vector=TensorSpec("F32", (8,)), scalar=TensorSpec("F32", ()), number=TensorSpec("I8", (64, 64)))
    made = plan(given, None, "*=int8")
    assert chosen(made) == ["int8", "int8", "lossless"]
    assert made.files[0].decisions[2].notes == (Note("refused", "int8 refused: I8 is not floating point"),)


def test_a_rule_whose_matches_are_all_refused() -> None:
    given = units(a=TensorSpec("I8", (64, 64)), b=TensorSpec("I64", (3,)), c=WEIGHT)
    with pytest.raises(UsageError, match=r"--rule 1.*none of the 2 tensors"):
        plan(given, None, "[ab]=int8")
    with pytest.raises(UsageError, match=r"--rule 1.*none of the 2 tensors"):
        plan(given, None, "[ab]=int8", allow_unmatched=True)
    with pytest.raises(UsageError, match=r"--rule 1.*none of the tensor it chooses \(b: I64"):
        plan(given, None, "b=int8")


def test_a_p_that_fits_no_tensor_is_a_note() -> None:
    made = plan(units(a=WEIGHT, b=WEIGHT), "svd:rank=1000")
    assert chosen(made) == ["lossless", "lossless"]
    (note,) = made.notes
    assert note.kind == "untouched"
    assert "can be used for none of 2 tensors (a: rank 1000" in note.text


def test_a_name_with_brackets_matches_itself() -> None:
    given = units(**{"blocks[0].w": WEIGHT, "params['a']['b']": WEIGHT, "blocks0.w": WEIGHT, "c": WEIGHT})
    made = plan(given, None, "blocks[0].w=int8", "params['a']['b']=int4")
    assert chosen(made) == ["int8", "int4", "lossless", "lossless"]  # and no other tensor
    star = units(**{"*": WEIGHT, "a[0]*": WEIGHT, "a0b": WEIGHT})
    assert chosen(plan(star, None, "*=int8")) == ["int8"] * 3  # a star is never a name alone
    others = units(**{"blocks0.w": WEIGHT, "c": WEIGHT})
    assert chosen(plan(others, None, "blocks[0].w=int8")) == ["int8", "lossless"]  # else it is a pattern
    with pytest.raises(UsageError, match=r"blocks\[1\]\.w=int8 matches no tensor") as raised:
        plan(given, None, "blocks[1].w=int8")
    assert "[[] is the bracket itself" in raised.value.hint
    assert chosen(plan(given, None, "blocks[[]0].w=int8")) == ["int8", "lossless", "lossless", "lossless"]


def test_exact_units_are_never_coded_with_loss() -> None:
    unit = Unit(0, WEIGHT, (View("a", WEIGHT),), exact="tensors overlap")
    made = plan((unit, *units(b=WEIGHT)), "int8")
    assert chosen(made) == ["lossless", "int8"]
    assert "tensors overlap" in made.files[0].decisions[0].notes[0].text
    assert plan((unit,)).files[0].decisions[0].notes == (Note("overlap", "tensors overlap"),)


def test_tied_tensors_go_by_the_first_rule_that_matches_any_name() -> None:
    tied = Unit(0, WEIGHT, (View("embed", WEIGHT), View("head", WEIGHT)))
    assert chosen(plan((tied,), None, "head=int4")) == ["int4"]
    assert chosen(plan((tied,), None, "embed=int8")) == ["int8"]
    with pytest.raises(UsageError, match="shadowed"):
        plan((tied,), None, "head=int4", "embed=int8")
    assert chosen(plan((tied,), None, "head=int4", "embed=int8", allow_unmatched=True)) == ["int4"]


def test_payload_without_tensors_is_lossless() -> None:
    made = plan((Unit(0, WEIGHT, ()), *units(b=WEIGHT)), "int8", "*=int4")
    assert chosen(made) == ["lossless", "int4"]


STATE = {
    "model__w": TensorSpec("F32", (64, 64)),
    "model__embed__weight": TensorSpec("F32", (64, 64)),
    "optimizer__state__0__exp_avg": TensorSpec("F32", (64, 64)),
    "optimizer__state__0__exp_avg_sq": TensorSpec("F32", (64, 64)),
    "optimizer__state__0__step": TensorSpec("F32", ()),
}


def test_rules_by_kind(tmp_path: Path) -> None:
    path = recipe(
        tmp_path,
        'kind = "embedding"\npipeline = "int8"',
        'kind = "weight"\npipeline = "int4"',
        'kind = "first-moment"\npipeline = "fp8"',
        'kind = "second-moment"\npipeline = "positive+int8"',
    )
    made = plan(units(**STATE), recipe=path)
    assert chosen(made) == ["int4", "int8", "fp8", "positive+int8", "lossless"]
    assert made.files[0].decisions[2].rule == "recipe rule 3: first-moment=fp8"


def test_a_rule_of_a_kind_that_nothing_has(tmp_path: Path) -> None:
    path = recipe(tmp_path, "# none here", 'kind = "second-moment"\npipeline = "int8"')
    path.write_text(path.read_text().replace("[[rule]]\n# none here\n", "\n"))
    with pytest.raises(UsageError, match=r"recipe.toml:2: rule 1: second-moment=int8 matches no tensor"):
        plan(units(a=WEIGHT), recipe=path)


def test_a_budget_of_a_rule(tmp_path: Path) -> None:
    path = recipe(
        tmp_path, 'name = "*.w"\nbits = 3', 'name = "*exp_avg*"\nmean_error = 0.1', 'name = "*"\nmin_snr = 20'
    )
    made = plan(units(**STATE), recipe=path)
    weight, embedding, first, second, step = made.files[0].decisions
    assert chosen(made)[:4] == [
        "trellis:bits=4",
        "trellis:error=0.1",
        "trellis:bits=4",
        "positive:domain=sqrt+trellis:bits=4",
    ]
    assert weight.rule == "recipe rule 1: *.w: bits 3"
    budgets = [None if each.budget is None else each.budget.origin for each in (weight, embedding, first, second)]
    assert budgets == [
        "recipe rule 1: bits 3",
        "recipe rule 3: min_snr 20",
        "recipe rule 2: mean_error 0.1",
        "recipe rule 2: mean_error 0.1",
    ]
    assert first.budget == second.budget
    assert not any(each.broad for each in made.files[0].decisions)
    assert step.budget is None or not step.pipeline.lossless


def test_a_budget_of_a_recipe_is_for_what_no_rule_names(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'name = "a"\npipeline = "int8"')
    path.write_text(path.read_text() + "\n[budget]\nbits = 3\n")
    made = plan(units(a=WEIGHT, b=WEIGHT, c=TensorSpec("BF16", (64,))), recipe=path)
    one, two, three = made.files[0].decisions
    assert (one.budget, str(one.pipeline)) == (None, "int8")
    assert (two.budget is not None, two.rule, two.broad) == (True, "recipe: bits 3", True)
    assert str(three.pipeline) == "lossless"


def test_an_optional_rule_may_be_of_no_use(tmp_path: Path) -> None:
    rule = 'name = "a"\npipeline = "int8"\n'
    with pytest.raises(UsageError, match=r"recipe.toml:1: rule 1: a=int8 can be used for none of the tensor"):
        plan(units(a=TensorSpec("I64", (64, 64))), recipe=recipe(tmp_path, rule))
    made = plan(units(a=TensorSpec("I64", (64, 64))), recipe=recipe(tmp_path, rule + "optional = true"))
    assert [note.kind for note in made.notes] == ["rule-unused"]
    assert made.notes[0].text.startswith("recipe rule 1: a=int8 can be used for none")


def test_a_shadowed_rule_is_told_with_its_line(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'name = "*"\npipeline = "int8"', 'name = "a"\npipeline = "int4"')
    message = r"recipe.toml:4: rule 2: a=int4 is wholly shadowed by recipe rule 1: \*=int8"
    with pytest.raises(UsageError, match=message):
        plan(units(a=WEIGHT), recipe=path)
