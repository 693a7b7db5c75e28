"""What models are given, and which task a config stands for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bale.errors import UsageError
from bale.models.measures import Line
from bale.models.tasks import TASKS, task_of

TOKENIZER = SimpleNamespace(mask_token_id=9, all_special_ids=[1, 2, 9])


def test_causal_lines() -> None:
    assert TASKS["causal"].lines([[1, 5, 6], [5], []], TOKENIZER) == [Line([1, 5, 6], [0, 1], [5, 6])]


def test_masked_lines() -> None:
    tokens = [[1, *range(10, 30), 2], [1, 10, 2], [1, 2]]
    long, short = TASKS["masked"].lines(tokens, TOKENIZER)
    assert short == Line([1, 9, 2], [1], [10])  # one at least, and none where there is nothing but special tokens
    assert len(long.places) == 3  # 15 % of 20
    assert [long.tokens[place] for place in long.places] == [9, 9, 9]
    assert long.targets == [tokens[0][place] for place in long.places]
    rest = [place for place in range(22) if place not in long.places]
    assert [long.tokens[place] for place in rest] == [tokens[0][place] for place in rest]
    assert TASKS["masked"].lines(tokens, TOKENIZER) == [long, short]
    with pytest.raises(UsageError, match="has no mask"):
        TASKS["masked"].lines(tokens, SimpleNamespace(mask_token_id=None, all_special_ids=[]))


def test_the_task_of_a_config(tmp_path: Path) -> None:
    for architectures, task in (
        (["LlamaForCausalLM"], "causal"),
        (["GPT2LMHeadModel"], "causal"),
        (["BertForMaskedLM"], "masked"),
        (["BertModel"], "encoder"),
        ([], "encoder"),
        (None, "encoder"),
        ([3], "encoder"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": architectures}))
        assert task_of(None, tmp_path).name == task
        assert task_of("masked", tmp_path).name == "masked"
    for broken in ("{", "[]", "3"):
        (tmp_path / "config.json").write_text(broken)
        assert task_of(None, tmp_path).name == "encoder"
    with pytest.raises(UsageError, match="no task 'x'"):
        task_of("x", tmp_path)
