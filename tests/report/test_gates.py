"""Gates: hand-computed conditions on a small report, what is refused, and that nothing is ever executed."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import CheckFailed, UsageError
from bale.report.gates.expressions import FUNCTIONS, LONGEST, UNITS
from bale.report.gates.gate import Gates, GatesFailed
from bale.report.gates.vocabularies import (
    ALL,
    COMPARE,
    COMPRESS,
    COMPRESS_WITH_STATISTICS,
    PLAN,
    Vocabulary,
)

PAGE = Path(__file__).parents[2] / "docs" / "gates.md"


def row(name: str, error: float | None, **more: Any) -> dict[str, Any]:
    """A row of a report, of two dimensions."""
    snr = None if not error else -20 * math.log10(error)
    return {
        "name": name,
        "file": "m",
        "shape": [8, 8],
        "relative_error": error,
        "snr_db": snr,
        "max_abs_error": error,
        "cosine": None if error is None else 1 - error**2 / 2,
        "worst_row_error": None if error is None else 3 * error,
        "output_error": None,
        "original_bytes": 1000,
        "stored_bytes": 250,
        "bits_per_weight": 8.0,
        "same_as": None,
    } | more


def report(*rows: dict[str, Any], **totals: Any) -> dict[str, Any]:
    """A report with these rows; its totals are not theirs."""
    lossy = [each for each in rows if each["relative_error"] != 0]
    return {
        "totals": {
            "original_bytes": 4000,
            "stored_bytes": 2000,
            "overhead_bytes": 100,
            "ratio": 2.0,
            "weights": {"original_bytes": 4000, "stored_bytes": 2000, "ratio": 2.0},
            "bits_per_weight": 5.0,
            "relative_error": 0.02 if lossy else 0.0,
            "snr_db": 34.0 if lossy else None,
            "lossy": {
                "tensors": len(lossy),
                "original_bytes": sum(each["original_bytes"] for each in lossy),
                "stored_bytes": sum(each["stored_bytes"] for each in lossy),
                "relative_error": 0.02,
                "snr_db": 34.0,
                "worst_tensor": "b",
                "worst_relative_error": 0.03,
                "worst_row_error": 0.09,
            }
            if lossy
            else None,
            "all_weights": {"relative_error": 0.01, "snr_db": 40.0} if lossy else None,
            "output_error": None,
            "coverage": {
                "int4": {"original_bytes": sum(each["original_bytes"] for each in lossy)},
                "lossless": {"original_bytes": sum(each["original_bytes"] for each in rows if each not in lossy)},
            },
        }
        | totals,
        "tensors": [*rows, row("tied", 0.5, same_as="a", stored_bytes=0, original_bytes=1000)],
    }


A, B, C = row("a", 0.01), row("b", 0.03, stored_bytes=500), row("c", 0.0)
DOCUMENT = report(A, B, C)


def failed(text: str, document: dict[str, Any] = DOCUMENT, known: Vocabulary = COMPRESS) -> list[str]:
    """The lines of a gate that fails; none where it does not."""
    try:
        Gates.parse([text], known).passed(lambda: document, None)
    except GatesFailed as problem:
        return problem.lines
    return []


TRUE = [
    "ratio < 2.5",
    "ratio <= 2",
    "2 >= ratio",
    "1 < ratio < 3",
    "not ratio > 2",
    "ratio * 2 + 1 == 5",
    "-ratio < -1",
    "ratio / 4 - 1 < 0",
    "(ratio - 1) * (ratio + 1) == 3",
    "ratio < 1 or bits_per_weight > 4",
    "relative_error > 1% and bits_per_weight > 4",
    "max(relative_error) > 0.02",
    "max(relative_error) > 2%",
    "max(relative_error) == 3 %",
    "min(relative_error) == 0",
    "mean(relative_error) > 1.33% and mean(relative_error) < 1.34%",
    "sum(stored_bytes) == 1000",
    "sum(original_bytes) == 3 kB",
    "count(relative_error > 0) == 2",
    "count(relative_error > 0 and bytes > 300) == 1",
    "max(bytes / original_bytes) == 0.5",
    "bytes > 1.9kB",
    "bytes > 1.9 KiB",
    "bytes == 2000B",
    "bytes == totals.stored_bytes",
    "weights.ratio == 2",
    "snr_db == 34dB",
    "min(snr_db) < 31 dB",
    "coverage < 0.67 and coverage > 66%",
    "lossy.worst_relative_error == 0.03",
    "totals.lossy.tensors == 2",
    "all_weights.snr_db == 40",
    "worst_row_error > 0.05",
    "worst_row_error == 0.03",
    "cosine < 0.9999",
    "max_abs_error >= 3e-2",
    "max_abs_error > 2% and ratio < 3",
    "worst_row_error > 5% or ratio < 1",
]


@pytest.mark.parametrize("text", TRUE)
def test_what_is_true_fails(text: str) -> None:
    assert failed(text)


@pytest.mark.parametrize(
    "text",
    [
        "ratio < 1.4",
        "max(relative_error) > 4%",
        "bytes > 500MB",
        "coverage < 0.5",
        "worst_row_error > 0.5",
        "relative_error > 0.05 and bits_per_weight > 4",
        "worst_row_error > 0.05 and relative_error > 0.02",  # the latter is of the whole
        "worst_row_error < 0.04 and max_abs_error > 0.02",  # never of the same tensor
        "count(relative_error == 0.5) > 0",  # stored with another
        "ratio < 1 and ratio / (ratio - 2) > 0",  # which is not reached
    ],
)
def test_what_is_false_passes(text: str) -> None:
    assert not failed(text)


def test_tensors_are_named_worst_first() -> None:
    assert failed("max(relative_error) > 0.005") == [
        "gate failed: max(relative_error) > 0.005: it is 0.03",
        "  b: relative_error 0.03",
        "  a: relative_error 0.01",
    ]
    assert failed("max(relative_error) > 0.02")[1:] == ["  b: relative_error 0.03"]
    assert failed("worst_row_error > 0.02") == [
        "gate failed: worst_row_error > 0.02: it is 0.09 in b, the worst of 2 tensors",
        "  b: worst_row_error 0.09",
        "  a: worst_row_error 0.03",
    ]
    assert failed("cosine < 1") == [
        "gate failed: cosine < 1: it is 0.99955 in b, the worst of 2 tensors",
        "  b: cosine 0.99955",
        "  a: cosine 0.99995",
    ]
    assert failed("ratio < 3") == [
        "gate failed: ratio < 3: it is 2",
        "  b: stored_bytes 500",
        "  a: stored_bytes 250",
        "  c: stored_bytes 250",
    ]
    assert failed("snr_db < 35")[1:] == ["  b: snr_db 30.458", "  a: snr_db 40"]
    assert failed("coverage < 99%") == [
        "gate failed: coverage < 99%: it is 0.66667",
        "  c: original_bytes 1000",
    ]
    assert failed("count(bytes > 300) > 0")[1:] == ["  b: bytes 500"]
    assert failed("mean(relative_error) > 0")[1:] == [
        "  b: relative_error 0.03",
        "  a: relative_error 0.01",
        "  c: relative_error 0",
    ]
    assert failed("min(cosine) < 1")[1] == "  b: cosine 0.99955"
    assert failed("overhead_bytes > 1") == ["gate failed: overhead_bytes > 1: it is 100"]


def test_several_figures_are_told_and_of_alternatives_the_true_one() -> None:
    (first, *rest) = failed("relative_error > 1% and bits_per_weight > 4")
    assert first.endswith(": relative_error is 0.02 and bits_per_weight is 5")
    assert rest == ["  b: relative_error 0.03", "  a: relative_error 0.01"]
    assert failed("worst_row_error > 1 or bits_per_weight > 4")[0].endswith(": bits_per_weight is 5")
    assert failed("2 * -max_abs_error < -0.05")[1:] == ["  b: 2 * -max_abs_error -0.06"]


def test_no_more_than_five_are_named_and_the_document_has_all() -> None:
    rows = [row(f"w{at}", at / 100) for at in range(1, 9)]
    lines = failed("max(relative_error) > 0.5%", report(*rows))
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["w8", "w7", "w6", "w5", "w4", "and 3 more tensors"]
    with pytest.raises(GatesFailed) as problem:
        Gates.parse(["max(relative_error) > 0.5%", "ratio > 5", "bytes > 1"], COMPRESS).passed(
            lambda: report(*rows), "result", "a hint"
        )
    error = problem.value
    assert isinstance(error, CheckFailed)
    assert (error.code, error.kind, error.hint, error.result) == (5, "check", "a hint", "result")
    assert error.message == ("gate failed: max(relative_error) > 0.5%: it is 0.08; gate failed: bytes > 1: it is 2000")
    assert error.lines[7] == "gate failed: bytes > 1: it is 2000; a hint"
    one, other = json.loads(json.dumps(error.details, allow_nan=False))["gates"]
    assert one["expression"] == "max(relative_error) > 0.5%"
    assert one["values"] == {"max(relative_error)": 0.08}
    assert [each["name"] for each in one["tensors"]] == [f"w{at}" for at in range(8, 0, -1)]
    assert one["tensors"][0] == {"name": "w8", "figure": "relative_error", "value": 0.08}
    assert len(other["tensors"]) == 5


def test_names_that_come_twice_have_their_file() -> None:
    document = report(row("w", 0.1), row("w", 0.2, file="n"), row("v", 0.3))
    assert [line.split(": ")[0] for line in failed("max(relative_error) > 0", document)[1:]] == [
        "  v",
        "  n:w",
        "  m:w",
    ]


def test_nulls_of_what_is_exact_are_no_loss() -> None:
    exact = report(C, row("v", 0.0, shape=[8], cosine=None, worst_row_error=None, bits_per_weight=None))
    for text in (
        "relative_error > 0",
        "snr_db < 1000",
        "min(snr_db) < 1000",
        "max(worst_row_error) > 0",
        "cosine < 1",
        "coverage > 0",
        "lossy.worst_row_error > 0",
        "lossy.snr_db < 100",
        "lossy.tensors > 0",
        "all_weights.relative_error > 0",
        "max(bits_per_weight) > 8",
    ):
        assert not failed(text, exact), text
    assert failed("snr_db > 1000", exact)[0].endswith("it is inf")
    assert not failed("output_error.worst > 0 or max(output_error) > 0", exact, COMPRESS_WITH_STATISTICS)


def test_other_nulls_are_the_worst_there_is() -> None:
    lost = row("lost", None)
    document = report(A, lost, relative_error=None, snr_db=None)
    document["totals"]["lossy"] |= {"worst_relative_error": None, "worst_row_error": None, "snr_db": None}
    for text in (
        "relative_error > 1e300",
        "snr_db < -1000",
        "max(relative_error) > 1e300",
        "min(snr_db) < -1000",
        "max_abs_error > 1e300",
        "cosine < 0",
        "worst_row_error > 1e300",
        "lossy.worst_relative_error > 1e300",
        "lossy.worst_row_error > 1e300",
        "lossy.snr_db < 0",
    ):
        assert failed(text, document), text
    assert failed("max(relative_error) > 1%", document)[1:] == ["  lost: relative_error inf"]
    assert failed("output_error.worst > 1e300", DOCUMENT, COMPRESS_WITH_STATISTICS)


def test_a_vector_is_one_row_and_an_output_nobody_described_counts_by_its_weights() -> None:
    vector = row("v", 0.2, shape=[8], worst_row_error=None)
    assert failed("worst_row_error > 0.1", report(A, vector))[1:] == ["  v: worst_row_error 0.2"]
    document = report(A, vector)
    document["totals"]["lossy"]["worst_row_error"] = None
    assert failed("lossy.worst_row_error == 0.2", document)
    known = report(row("w", 0.5, output_error=0.1), vector)
    assert failed("output_error > 0.05", known, COMPRESS_WITH_STATISTICS)[1:] == [
        "  v: output_error 0.2",
        "  w: output_error 0.1",
    ]


def test_without_tensors_a_gate_is_of_one_that_lost_nothing() -> None:
    nothing = report()
    nothing["tensors"] = []
    for text in ("worst_row_error > 0", "cosine < 1", "max(relative_error) > 0", "min(snr_db) < 99", "sum(bytes) > 0"):
        assert not failed(text, nothing), text
    assert not failed("coverage > 0", nothing)
    assert failed("coverage < 0.5", nothing) == ["gate failed: coverage < 0.5: it is 0"]
    assert failed("worst_row_error == 0", nothing) == ["gate failed: worst_row_error == 0: it is 0"]
    assert failed("worst_row_error > 0 or ratio == 2", nothing)
    assert failed("mean(bytes) == 0 and max(cosine) == 1", nothing)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ratio / (bits_per_weight - 5) > 1", "it divides by zero"),
        ("max(relative_error / (relative_error - 0.03)) > 1", "it divides by zero"),
        ("worst_row_error / relative_error / max_abs_error > 1", "it divides by zero"),
        ("max(snr_db) - max(snr_db) > 1", "there is no inf - inf"),
        ("sum(snr_db * (relative_error - 0.02)) > 1", "infinitely negative"),
    ],
)
def test_what_cannot_be_said_fails(text: str, why: str) -> None:
    infinite = row("d", 0.0, relative_error=0.0), row("e", 0.03, snr_db=math.inf)
    (line,) = failed(text, report(A, B, C, *infinite))
    assert line.startswith(f"gate failed: {text}: it cannot be said (")
    assert why in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an expression"),
        ("   ", "not an expression"),
        ("ratio", "ratio is no condition; compare it"),
        ("5", "no condition"),
        ("ratio and 1 < 2", "ratio is no condition"),
        ("ratio <", "not an expression"),
        ("(ratio < 1", "not an expression"),
        ("ratio = 1", "equality is =="),
        ("ratio < 1 && bytes > 1", "the words are and, or, not"),
        ("!ratio", "the words are and, or, not"),
        ("rato < 1", "there is no rato; did you mean ratio?"),
        ("max(relativ_error) > 1", "did you mean relative_error"),
        ("Ratio < 1", "did you mean ratio?"),
        ("error > 1", "did you mean"),
        ("qqq > 1", "names are original_bytes, "),
        ("totals.worst_row_error > 1", "does not know totals.worst_row_error"),
        ("max(ratio) > 1", "ratio is no figure of tensors"),
        ("max(2) > 1", "has no figure of tensors"),
        ("max(relative_error > 1) > 1", "is not a number"),
        ("count(relative_error) > 1", "relative_error is no condition"),
        ("max(min(relative_error)) > 1", "functions do not nest"),
        ("max(relative_error)", "is no condition"),
        ("max > 1", "max is a function"),
        ("max() > 1", "functions take one argument"),
        ("median(relative_error) > 1", "there is no function 'median'; they are max, min, mean, sum, count"),
        ("lossy.tensors(ratio) > 1", "is not a number"),
        ("max(*relative_error) > 1", "is not a number"),
        ("9**9**9 > 1", "not an expression"),
        ("ratio // 2 > 1", "not an expression"),
        ("5 % 2 > ratio", "not an expression"),
        ("1 / 0 > ratio", "divides by zero"),
        ("1e999 > ratio", "too large"),
        (f"{'9' * 400} > ratio", "too large"),
        ("500XB > bytes", "units are %, dB, B"),
        ("5.5.5 > ratio", "units are"),
        ("1_000 > ratio", "units are"),
        ("ratio < 1, bytes > 1", "has no meaning here"),
        ("ratio[0] < 1", "has no meaning here"),
        ("'a' < 1", "has no meaning here"),
        ("ratio < 1; ratio", "has no meaning here"),
        ("ratiö < 1", "has no meaning here"),
        ("\U0001d42batio < 1", "has no meaning here"),
        ("lambda: 1", "there is no 'lambda'"),
        ("ratio if ratio else ratio", "there is no 'if'"),
        ("ratio in bytes", "there is no 'in'"),
        ("None < 1", "there is no 'None'"),
        ("ratio.__class__ < 1", "there is no ratio.__class__"),
        ("__import__ < 1", "there is no __import__"),
        ("not " * 100 + "ratio < 1", "too much of it is nested"),
        ("-" * 200 + "1 < ratio", "too much of it is nested"),
        ("(" * 240 + "ratio" + ")" * 240 + " < 1", "not an expression"),
        ("ratio < 1" + " " * LONGEST, f"takes {LONGEST} letters"),
        ("seconds > 1", "compress does not know seconds; plan can tell"),
        ("output_error > 1", "compress does not know output_error; compress --stats can tell"),
        ("only_in_a > 1", "compress does not know only_in_a; compare can tell"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as problem:
        Gates.parse(["ratio < 1", text], COMPRESS)
    assert words in str(problem.value)
    assert problem.value.code == 2


def test_what_other_verbs_do_not_know() -> None:
    for known, text, words in (
        (PLAN, "worst_row_error > 1", "plan does not know worst_row_error; compress and compare and verify can tell"),
        (COMPARE, "ratio < 1", "compare does not know ratio; compress and plan and verify can tell"),
        (COMPARE, "bytes > 1", "compare does not know bytes"),
        (COMPRESS, "predicted_bytes > 1", "compress does not know predicted_bytes; plan can tell"),
    ):
        with pytest.raises(UsageError, match=words):
            Gates.parse([text], known)


WORDS = st.sampled_from(
    [
        *("ratio", "relative_error", "snr_db", "worst_row_error", "bytes", "lossy.tensors", "totals.ratio", "coverage"),
        *FUNCTIONS,
        *("and", "or", "not", "<", "<=", ">", ">=", "==", "!=", "+", "-", "*", "/", "(", ")", "0", "1", "2.5", "1e300"),
        *(
            "%",
            "MB",
            " 5%",
            "34 dB",
            "**",
            "//",
            ",",
            ".",
            "lambda",
            "__import__",
            "=",
            ":=",
            "[",
            "é",
            "\x00",
            "'",
            "#",
        ),
    ]
)


@given(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=14).map(" ".join), st.lists(WORDS).map("".join)))
def test_any_text_is_refused_or_answered(text: str) -> None:
    try:
        gates = Gates.parse([text], COMPRESS)
    except UsageError:
        return
    for document in (DOCUMENT, report(C), report(row("lost", None), relative_error=None)):
        try:
            gates.passed(lambda: document, None)  # noqa: B023
        except GatesFailed as problem:
            json.dumps(problem.details, allow_nan=False)


NUMBERS = st.recursive(
    st.sampled_from(["ratio", "bits_per_weight", "2", "0.5%", "max(relative_error)", "count(bytes > 300)", "cosine"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda each: f"({' '.join(each)})"),
    max_leaves=6,
)
CONDITIONS = st.recursive(
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda each: f"({''.join(each)})"),
        inner.map(lambda each: f"not ({each})"),
    ),
    max_leaves=4,
)


@given(CONDITIONS)
def test_conditions_mean_what_they_mean_in_python(text: str) -> None:
    try:
        gates = Gates.parse([text], COMPRESS)
    except UsageError:  # it is too long, or divides by a zero that is written there
        return
    spelled = text.replace("0.5%", "0.005")
    figures = {"ratio": 2.0, "bits_per_weight": 5.0, "relative_error": 0.03, "bytes": 301.0}
    functions = {"max": lambda number: number, "count": lambda found: 1.0, "__builtins__": {}}
    try:
        cosines = [each["cosine"] for each in (A, B, C)] if "cosine" in text else [1.0]
        expected = any(eval(spelled, functions, figures | {"cosine": each}) for each in cosines)
    except ZeroDivisionError:
        expected = True
    except OverflowError:
        return
    lines = []
    try:
        gates.passed(lambda: DOCUMENT, None)
    except GatesFailed as problem:
        lines = problem.lines
    assert bool(lines) == expected or any("cannot be said" in line for line in lines)


def test_names_are_those_of_the_report() -> None:
    """Each number that a report always has can be asked for, times and sums of pipelines aside."""
    schema = json.loads(files("bale").joinpath("report.schema.json").read_text())
    left = {"seconds", "floor_bytes", "floor_bits_per_weight"}

    def numbers(at: dict[str, Any], name: str = "") -> set[str]:
        if "$ref" in at:
            at = schema["$defs"][at["$ref"].rpartition("/")[2]]
        if "properties" in at:
            inside = at["properties"].items()
            return {found for key, each in inside for found in numbers(each, f"{name}.{key}".lstrip("."))}
        kinds = at.get("type", ())
        return {name} if {"number", "integer"} & {*([kinds] if isinstance(kinds, str) else kinds)} else set()

    known = COMPRESS_WITH_STATISTICS
    assert numbers(schema["properties"]["totals"]) - left == known.totals.keys() - {"coverage"}
    assert {each for each in numbers(schema["$defs"]["tensor"]) - left if "." not in each} == known.tensors.keys()


def test_the_page_has_every_name_unit_and_function() -> None:
    text = PAGE.read_text()
    words = {word for known in ALL for word in (*known.totals, *known.tensors, *known.aliases)}
    assert not [word for word in (*words, *FUNCTIONS) if f"`{word}`" not in text]
    assert not [unit for unit in UNITS if unit not in text.lower()]
