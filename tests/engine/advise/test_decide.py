"""Which advice follows from which numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bale.engine.advise.decide import Facts, for_inference, for_storage, for_transfer, seconds, send
from bale.report.advice import Choice, LowRank

FAST = Choice("", 800, 0.0, 1.0, 0.5)
MOST = Choice("-p lossless:effort=max", 780, 0.0, 4.0, 1.0)
PRESET = Choice("--bits 4.5", 200, 0.05, 3.0, 0.5)
FACTS = Facts(1000, 0, 0, (FAST, MOST, PRESET))


def test_storage_keeps_every_bit_first_and_says_what_loss_risks() -> None:
    exact, lossy = for_storage(FACTS)
    assert (exact.options, lossy.options) == ("-p lossless:effort=max", "--bits 4.5")
    assert "every bit" in exact.why
    assert "20 % of the source" in lossy.why
    assert "5 %" in lossy.why
    assert "evaluate" in lossy.risk


def test_the_worst_tensor_is_told_of_where_it_is_far_from_the_rest() -> None:
    assert "of one tensor 40 %" in for_storage(replace(FACTS, choices=(FAST, replace(PRESET, worst=0.4))))[1].why
    assert "of one tensor" not in for_storage(replace(FACTS, choices=(FAST, replace(PRESET, worst=0.1))))[1].why


def test_the_largest_effort_must_be_worth_its_time() -> None:
    assert for_storage(replace(FACTS, choices=(FAST, replace(MOST, size=793), PRESET)))[0].options == ""
    assert for_storage(replace(FACTS, choices=(FAST, replace(MOST, size=791), PRESET)))[0].options == MOST.options


def test_nothing_lossy_where_that_is_not_smaller_or_not_possible() -> None:
    assert len(for_storage(replace(FACTS, choices=(FAST, MOST)))) == 1
    assert len(for_storage(replace(FACTS, choices=(FAST, MOST, replace(PRESET, size=780))))) == 1


def test_what_is_quantized_already_stays_lossless() -> None:
    facts = replace(FACTS, quantized=900)
    (step,) = for_storage(facts)
    assert "90 % is quantized already" in step.why
    (step,) = for_inference(facts, [Choice("-p int8", 300, 0.01)])
    assert step.options == ""
    assert len(for_transfer(facts, send(1000, facts.choices, 1.0))) == 1


def test_moments_are_told_of() -> None:
    assert "moments" in for_storage(replace(FACTS, moments=30))[1].risk
    assert "moments" not in for_storage(replace(FACTS, moments=10))[1].risk


def test_low_rank_is_to_be_tried_by_a_rule_that_a_shell_takes() -> None:
    found = LowRank("pos *", "m", 1.0, 3, "pos *=svd:rank=auto+int8/trellis:bits=3")
    step = for_storage(replace(FACTS, low_rank=(found,)))[-1]
    assert step.options == "--bits 4.5 --rule 'pos *=svd:rank=auto+int8/trellis:bits=3'"
    assert "tried" in step.why


def test_times_end_to_end() -> None:
    plain, fast, most, preset = send(1000, FACTS.choices, 100.0)
    assert (plain.options, plain.total) == (None, 10.0)
    assert fast.total == 1.0 + 8.0 + 0.5
    assert most.total == 4.0 + 7.8 + 1.0
    assert preset.total == 3.0 + 2.0 + 0.5
    assert send(1000, [Choice("-p int8", 300, 0.01)], 100.0) == [plain]


@pytest.mark.parametrize(
    ("bandwidth", "expected"),
    [(100.0, ["", "--bits 4.5"]), (1.0, ["-p lossless:effort=max", "--bits 4.5"]), (1e6, [None])],
)
def test_the_fastest_way_depends_on_the_bandwidth(bandwidth: float, expected: list[str | None]) -> None:
    steps = for_transfer(FACTS, send(1000, FACTS.choices, bandwidth))
    assert [step.options for step in steps] == expected


def test_inference_names_what_is_to_be_done_before_use() -> None:
    steps = for_inference(FACTS, [Choice("-p int8", 260, 0.0074), Choice("-p int4", 140, 0.0)])
    assert [step.options for step in steps] == ["-p int8"]
    assert "decompress" in steps[0].why
    assert "0.74 %" in steps[0].why


def test_times_in_words() -> None:
    assert [seconds(each) for each in (0.123, 9.96, 42.4, 600, 36000)] == ["0.12 s", "10 s", "42 s", "10 min", "10.0 h"]
