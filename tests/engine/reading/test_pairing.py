"""Pairs of tensors: by name, by name without wrappers, by ending, and by content."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from enum import Enum

import numpy as np
import pytest

from bale.engine.reading.pairing import Candidate, Pairing, unwrapped
from bale.planning.renames import Renames
from bale.spec import TensorSpec
from tests.making import weights

DTYPES = {"float32": "F32", "int64": "I64", "complex64": "C64"}


def candidates(tensors: Mapping[str, np.ndarray]) -> list[Candidate]:
    def one(name: str, array: np.ndarray) -> Candidate:
        spec = TensorSpec(DTYPES[str(array.dtype)], array.shape)
        return Candidate((name,), spec, lambda start, count: array.reshape(-1)[start : start + count])

    return [one(*item) for item in tensors.items()]


class By(Enum):
    NAME, CONTENT = range(2)


def pairs(
    wanted: Mapping[str, np.ndarray],
    offered: Mapping[str, np.ndarray],
    renames: tuple[str, ...] = (),
    once: bool = False,
    related: bool = True,
) -> dict[str, tuple[str, By]]:
    names, keys = list(offered), list(wanted)
    pairing = Pairing(candidates(offered), Renames.parse(renames))
    named = pairing.by_name(candidates(wanted), once)
    found = pairing.by_content(candidates(wanted), named, lambda number, index: related)
    by_name = {key: (names[index], By.NAME) for key, index in zip(keys, named, strict=True) if index is not None}
    return by_name | {keys[number]: (names[index], By.CONTENT) for number, index in found.items()}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model._orig_mod.layers.0.w", "model.layers.0.w"),
        ("module.module.w", "w"),
        ("a._fsdp_wrapped_module.b._checkpoint_wrapped_module.c.w", "a.b.c.w"),
        ("base_model.model.q_proj.base_layer.weight", "base_model.model.q_proj.weight"),
        ("module", "module"),  # the last piece is the tensor's own name
        ("a.module", "a.module"),
        ("modules.0.w", "modules.0.w"),
        ("", ""),
    ],
)
def test_wrappers(name: str, plain: str) -> None:
    assert unwrapped(name) == plain


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        ("a.w", "a.w"),
        ("m._orig_mod.a.w", "m.a.w"),
        ("m.a.w", "m._orig_mod.a.w"),
        ("module.m.a.w", "m.a.w"),
        ("state_dict.model.a.w", "a.w"),
        ("a.w", "ema.model.a.w"),
        ("base_model.model.m.q.base_layer.w", "m.q.w"),
    ],
)
def test_by_name(wanted: str, offered: str) -> None:
    """Values do not count: a name says what a tensor is."""
    array, other = weights(4, 4), weights(4, 4, seed=1)
    assert pairs({wanted: array}, {offered: other}) == {wanted: (offered, By.NAME)}


def test_a_name_goes_before_what_it_is_without_wrappers() -> None:
    a, b = weights(4, 4), weights(4, 4)
    assert pairs({"module.w": a, "w": b}, {"w": b, "module.w": a}) == {
        "module.w": ("module.w", By.NAME),
        "w": ("w", By.NAME),
    }
    assert pairs({"module.w": a, "w": b}, {"w": b}, once=True) == {"w": ("w", By.NAME)}
    assert pairs({"module.w": a, "w": b}, {"w": b})["module.w"] == ("w", By.NAME)


def test_an_ending_that_several_have_is_none() -> None:
    assert pairs({"w": weights(4, 4)}, {"a.w": weights(4, 4), "b.w": weights(4, 4, seed=1)}) == {}


def test_renames_count_first() -> None:
    array = weights(4, 4)
    assert pairs({"x.w": array}, {"x.w": array, "y.w": array}, (r"re:x[.](.*)=y.\1",)) == {"x.w": ("y.w", By.NAME)}


def test_rows() -> None:
    assert pairs({"w": weights(5, 4)}, {"w": weights(7, 4)}) == {"w": ("w", By.NAME)}
    assert pairs({"w": weights(5, 4)}, {"w": weights(5, 3)}) == {}
    assert pairs({"w": weights(5, 4)}, {"w": weights(5, 4, 1)}) == {}
    assert pairs({"w": np.float32(1).reshape(())}, {"w": weights(1)}) == {}


def test_content() -> None:
    """What is left is paired by values, one to one: layers of another number, whatever they are called."""
    layers = {f"encoder.{n}.attention.query.weight": weights(16, 16, seed=n) for n in range(6)}
    rng = np.random.default_rng(9)
    tuned = {
        f"blocks.{5 - n}.q": array + 1e-3 * rng.standard_normal(array.shape).astype("<f4")
        for n, array in enumerate(layers.values())
    }
    found = pairs(tuned, layers)
    assert found == {f"blocks.{5 - n}.q": (name, By.CONTENT) for n, name in enumerate(layers)}
    assert pairs(tuned, layers, related=False) == {}


def test_content_that_several_share_goes_to_the_longest_ending() -> None:
    array = weights(16, 16)
    offered = {"ema.a.weight": array + 1, "raw.b.weight": array, "old.b.kernel": array}
    found = pairs({"x.b.weight": array, "y.b.kernel": array}, offered)
    assert found == {"x.b.weight": ("raw.b.weight", By.CONTENT), "y.b.kernel": ("old.b.kernel", By.CONTENT)}


@pytest.mark.parametrize(
    "array",
    [
        np.ones((16, 16), "f4"),  # constants are like any other
        weights(4, 4),  # too few values to tell
        weights(16, 16).astype("c8"),
        np.full((16, 16), np.nan, "f4"),
    ],
)
def test_content_that_tells_nothing(array: np.ndarray) -> None:
    assert pairs({"a": array}, {"b": array}) == {}


def test_tensors_of_whole_numbers_are_paired_by_content() -> None:
    ids = np.random.default_rng(0).integers(0, 1000, (10, 10))
    assert pairs({"a": ids}, {"c": ids[::-1].copy(), "b": ids}) == {"a": ("b", By.CONTENT)}
    assert pairs({"a": ids}, {"b": ids.astype("f4")}) == {}


def test_very_many_tensors_are_paired_by_content_in_little_memory() -> None:
    """No table of all with all, which would take 50 MB here."""
    number = 1500
    rng = np.random.default_rng(0)
    values = rng.standard_normal((number, 128), "f4")
    offered = {f"a{at}": row for at, row in enumerate(values)}
    order = rng.permutation(number)
    wanted = {f"b{at}": values[at] * np.float32(1.001) for at in order}
    tracemalloc.start()
    found = pairs(wanted, offered)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(found[f"b{at}"][0] == f"a{at}" for at in range(number))
    assert peak < 16 << 20


@pytest.mark.parametrize("change", [0.1, 0.3])
def test_values_that_moved_much_are_still_found(change: float) -> None:
    rng = np.random.default_rng(1)
    offered = {f"a{at}": weights(32, 32, seed=at) for at in range(200)}
    wanted = {
        f"b{name}": w + np.float32(change) * w.std() * rng.standard_normal(w.shape).astype("f4")
        for name, w in offered.items()
    }
    found = pairs(wanted, offered)
    assert sum(found.get(f"b{name}", ("", By.CONTENT))[0] == name for name in offered) >= 190
    assert all(pair[0] == name[1:] for name, pair in found.items())


def test_content_with_another_number_of_rows() -> None:
    w = weights(40, 32)
    grown = np.concatenate([w * np.float32(1.001), weights(8, 32, seed=1)])
    assert pairs({"net.tok": grown}, {"other": weights(40, 32, seed=2), "embed.weight": w}) == {
        "net.tok": ("embed.weight", By.CONTENT)
    }
    assert pairs({"a": weights(300)}, {"b": weights(400)[:350]}) == {}  # vectors have no rows
