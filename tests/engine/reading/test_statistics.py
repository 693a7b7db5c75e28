"""Statistics of inputs: what is told of a tensor, what is noted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bale
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.engine.reading.statistics import open_statistics
from bale.errors import OutputError, SourceError
from bale.io.sources.open import open_checkpoint
from bale.spec import Unit
from tests.making import bf16, sha256, weights, write

INT8, SVD = Pipeline.parse("int8"), Pipeline.parse("svd:rank=2+int8")


def mean(*values: float) -> np.ndarray:
    return np.array(values, "<f4")


def scaled(values: Any) -> list[Any]:
    """As they are told: by the power of two that takes the largest below 1."""
    array = np.asarray(values, "<f4")
    return np.ldexp(array, -np.frexp(array.max())[1]).tolist()


def unit_of(path: Path, name: str) -> Unit:
    return next(unit for unit in open_checkpoint(path).units if name in [view.name for view in unit.views])


def use_of(path: Path, stats: Path, name: str, pipeline: Pipeline = INT8) -> Importance | None:
    with open_statistics(stats) as statistics:
        return statistics.importance(unit_of(path, name), pipeline)


# What is told of a tensor.


@pytest.mark.parametrize(
    ("shape", "given", "told"),
    [
        ((4, 3), (3,), (1, 3)),
        ((4, 3), (1, 3), (1, 3)),
        ((3, 4), (3, 1), (3, 1)),
        ((4, 3), (4, 3), (4, 3)),
        ((4, 3), (), (1, 1)),
        ((5, 3, 2, 2), (3, 1, 1), (1, 3, 1, 1)),
        ((5, 3, 2, 2), (1, 3, 2, 2), (1, 3, 2, 2)),
        ((6,), (6,), (6,)),
    ],
)
def test_shapes_are_aligned_at_the_last_dimension(
    tmp_path: Path, shape: tuple[int, ...], given: tuple[int, ...], told: tuple[int, ...]
) -> None:
    values = np.arange(np.prod(given, dtype=int), dtype="<f4").reshape(given)
    use = use_of(write(tmp_path / "m", {"w": weights(*shape)}), write(tmp_path / "s", {"w": values}), "w")
    assert use is not None
    assert use.second_moment.shape == told
    assert use.second_moment.reshape(-1).tolist() == scaled(values.reshape(-1))
    assert use.covariance is None


@pytest.mark.parametrize("dtype", ["<f2", "<f8", "bf16"])
def test_other_floats(tmp_path: Path, dtype: str) -> None:
    values = bf16(mean(1, 2, 0.5)) if dtype == "bf16" else mean(1, 2, 0.5).astype(dtype)
    use = use_of(write(tmp_path / "m", {"w": weights(4, 3)}), write(tmp_path / "s", {"w": values}), "w")
    assert use is not None
    assert use.second_moment.dtype == np.float32
    assert use.second_moment.tolist() == scaled([[1, 2, 0.5]])


def test_a_transposed_tensor(tmp_path: Path) -> None:
    """Shape (2, 3) for the model, (3, 2) in memory."""
    torch.save({"w": torch.zeros(3, 2).T}, tmp_path / "m.pt")
    assert unit_of(tmp_path / "m.pt", "w").spec.shape == (3, 2)
    covariance = np.float32([[1, 0.5, 0], [0.5, 2, 0], [0, 0, 3]])
    stats = write(tmp_path / "s", {"w": mean(1, 2, 3), "w:covariance": covariance})
    use = use_of(tmp_path / "m.pt", stats, "w", SVD)
    assert use is not None
    assert use.covariance is not None
    assert use.second_moment.tolist() == scaled([[1], [2], [3]])
    assert use.covariance.tolist() == scaled(covariance)


def test_a_channels_last_kernel(tmp_path: Path) -> None:
    kernel = torch.zeros(5, 2, 1, 3).to(memory_format=torch.channels_last)
    torch.save({"w": kernel}, tmp_path / "m.pt")
    assert unit_of(tmp_path / "m.pt", "w").spec.shape == (5, 1, 3, 2)
    second = np.arange(1, 7, dtype="<f4").reshape(2, 1, 3)
    covariance = np.diag(second.reshape(-1))
    covariance[0, 1] = covariance[1, 0] = 1  # of (channel 0, x 0) and (channel 0, x 1)
    use = use_of(tmp_path / "m.pt", write(tmp_path / "s", {"w": second, "w:covariance": covariance}), "w", SVD)
    assert use is not None
    assert use.covariance is not None
    assert use.second_moment.tolist() == scaled([[[[1, 4], [2, 5], [3, 6]]]])
    assert use.covariance.diagonal().tolist() == scaled([1, 4, 2, 5, 3, 6])
    assert (use.covariance[0, 2], use.covariance[2, 0]) == (1 / 8, 1 / 8)


def test_tied_names_have_the_first_that_is_there(tmp_path: Path) -> None:
    tied = torch.zeros(3, 2)
    torch.save({"a": tied, "b": tied, "c": tied.T, "flat": tied.view(-1)}, tmp_path / "m.pt")
    for given, told in [
        ({"a": mean(1, 2)}, [[1, 2]]),
        ({"b": mean(3, 4)}, [[3, 4]]),
        ({"b": mean(3, 4), "a": mean(1, 2)}, [[1, 2]]),
        ({"c": np.float32([[5], [6]])}, [[5, 6]]),
    ]:
        use = use_of(tmp_path / "m.pt", write(tmp_path / "s", given), "a")
        assert use is not None
        assert use.second_moment.tolist() == scaled(told)
    assert use_of(tmp_path / "m.pt", write(tmp_path / "s", {"flat": mean(1, 2, 3, 4, 5, 6)}), "a") is None


def test_what_is_next_to_nothing_is_nothing(tmp_path: Path) -> None:
    model = write(tmp_path / "m", {"w": weights(4, 3)})
    given = np.float32([2.0**100, 2.0**41, 2.0**40])
    stats = write(tmp_path / "s", {"w": given, "w:covariance": np.diag(given)})
    use = use_of(model, stats, "w", SVD)
    assert use is not None
    assert use.covariance is not None
    assert use.second_moment.tolist() == [[0.5, 2.0**-60, 0]]
    assert use.covariance[0, 0] == 0.5


def test_tensors_that_overlap_have_none(tmp_path: Path) -> None:
    flat = torch.zeros(12)
    torch.save({"a": flat[:8].view(4, 2), "b": flat[4:].view(4, 2)}, tmp_path / "m.pt")
    assert use_of(tmp_path / "m.pt", write(tmp_path / "s", {"a": mean(1, 2)}), "a") is None


def test_a_covariance_is_read_for_what_uses_it(tmp_path: Path) -> None:
    model = write(tmp_path / "m", {"w": weights(4, 2)})
    stats = write(tmp_path / "s", {"w": mean(1, 1), "w:covariance": np.float32([[1, 0.5], [0.5, 1]])})
    reads = {"int8": False, "trellis:bits=3": True, "svd:rank=1+int8": True, "svd:rank=1/trellis:bits=3": True}
    reads |= dict.fromkeys(("tucker:error=0.1+int8", "tt:error=0.1", "cp:rank=1", "positive+int8"), False)
    for text, wanted in reads.items():
        pipeline = Pipeline.parse(text)
        use = use_of(model, stats, "w", pipeline)
        assert use is not None
        assert (use.covariance is not None) == wanted, text
        with open_statistics(stats) as statistics:
            assert statistics.size(unit_of(model, "w"), pipeline) == 8 * 2 + 36 * 4 * wanted


# What is noted and what is refused.


def notes(model: Path, stats: Path, **choices: Any) -> list[str]:
    report = bale.compress(model, stats=stats, force=True, **choices).to_json()
    assert bale.plan(model, stats=stats, **choices).to_json()["notes"] == report["notes"]
    pairs = zip(report["notes"], report["note_kinds"], strict=True)
    return [note for note, kind in pairs if kind not in ("no-gain", "small")]


def test_notes(tmp_path: Path, model: Path, stats: Path) -> None:
    assert notes(model, stats, pipeline="int4") == [
        "1 of 3 tensors coded with loss have no statistics, first embed.weight"
    ]
    assert notes(model, stats, rules=["layers.*.weight=int4"]) == []
    assert notes(model, stats) == ["statistics change nothing where nothing is coded with loss"]
    assert notes(model, stats, rules=["layers.1.weight=int4/exact"]) == []
    strange = write(tmp_path / "s", {"layers.1.weight": mean(1), "x.weight": mean(1), "y": mean(1)})
    assert notes(model, strange, rules=["layers.1.weight=int4"]) == [
        f"the source has no x.weight, which {strange} tells of, nor 1 other of its names"
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layers.1.weight": np.ones(64, "<f4")}, "F32[64] does not broadcast to the tensor's BF16[64,128]"),
        ({"layers.1.weight": np.ones((1, 1, 128), "<f4")}, "does not broadcast"),
        ({"layers.1.weight": np.ones((2, 128), "<f4")}, "does not broadcast"),
        ({"layers.1.weight": np.ones((0, 128), "<f4")}, "does not broadcast"),
        ({"layers.1.weight": np.ones(128, "<i4")}, "its dtype is I32"),
        ({"layers.1.weight": np.full(128, np.nan, "<f4")}, "not finite"),
        ({"layers.1.weight": np.full(128, np.inf, "<f4")}, "not finite"),
        ({"layers.1.weight": np.full(128, -np.inf)}, "not finite"),
        ({"layers.1.weight": np.arange(-1, 127, dtype="<f4")}, "negative"),
        ({"layers.1.weight:covariance": np.eye(128, dtype="<f4")}, "a covariance and no mean squares"),
    ],
)
def test_wrong_mean_squares(tmp_path: Path, model: Path, given: dict[str, np.ndarray], words: str) -> None:
    stats = write(tmp_path / "s", given)
    for call in (bale.compress, bale.plan):
        with pytest.raises(SourceError) as caught:
            call(model, stats=stats, pipeline="int4")
        assert words in str(caught.value)
        assert "layers.1.weight" in str(caught.value)
    assert not Path(f"{model}.bale").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[:, :5], "it is F32[128,5], and there are 128 mean squares"),
        (lambda c: c + np.eye(128, k=1, dtype="<f4"), "not symmetric"),
        (lambda c: c + np.float32(5) * (np.eye(128, k=1) + np.eye(128, k=-1)).astype("<f4"), "larger than"),
        (lambda c: c * np.float32(1.05), "diagonal"),
        (lambda c: c * np.float32(np.nan), "not finite"),
    ],
)
def test_wrong_covariances(tmp_path: Path, model: Path, change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    inputs = np.random.default_rng(0).standard_normal((500, 128))
    covariance = (inputs.T @ inputs / 500).astype("<f4")
    sound = {"layers.1.weight": covariance.diagonal().copy(), "layers.1.weight:covariance": covariance}
    bale.compress(model, stats=write(tmp_path / "sound", sound), rules=["layers.1.weight=svd:rank=4"], force=True)
    broken = write(tmp_path / "s", sound | {"layers.1.weight:covariance": np.ascontiguousarray(change(covariance))})
    for call in (partial(bale.compress, force=True), bale.plan):
        with pytest.raises(SourceError) as caught:
            call(model, stats=broken, rules=["layers.1.weight=svd:rank=4"])
        assert words in str(caught.value)
        assert "layers.1.weight" in str(caught.value)


@pytest.mark.parametrize("scale", [1e-35, 1.0, 1e35])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "bf16"])
def test_a_covariance_is_checked_at_every_scale(tmp_path: Path, scale: float, dtype: str) -> None:
    scale = scale if dtype != "<f8" else scale**3
    model = write(tmp_path / "m", {"w": weights(4, 3)})
    ones = np.full((3, 3), scale)
    for change, words in (
        (0 * ones, "diagonal"),
        (np.eye(3) * scale * 1.05, "diagonal"),
        (ones - np.triu(ones, 1), "not symmetric"),
        (np.eye(3) * scale * -0.1 + 1.1 * ones, "larger"),
        (np.eye(3) * scale, None),
        (ones, None),
    ):
        given = {"w": np.full(3, scale), "w:covariance": change}
        if dtype == "bf16":
            stats = write(tmp_path / "s", {name: bf16(each.astype("<f4")) for name, each in given.items()})
        else:
            stats = write(tmp_path / "s", {name: each.astype(dtype) for name, each in given.items()})
        if words is None:
            assert use_of(model, stats, "w", SVD) is not None
            continue
        with pytest.raises(SourceError, match=words) as caught:
            use_of(model, stats, "w", SVD)
        assert caught.value.hint == "fix them, or collect them again"


def test_a_covariance_rounded_to_halves(tmp_path: Path) -> None:
    """Of inputs that are not large: F16 rounds small mean squares to few digits, and the smallest to zero."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((500, 2)) @ rng.standard_normal((2, 80)) * np.exp2(rng.uniform(-14, 1, 80))
    covariance = (inputs.T @ inputs / 500).astype("<f2")
    assert 0 < (covariance.diagonal() < 2.0**-20).sum() < 80
    stats = write(tmp_path / "s", {"w": covariance.diagonal().copy(), "w:covariance": covariance})
    assert use_of(write(tmp_path / "m", {"w": weights(64, 80)}), stats, "w", SVD) is not None


def test_of_another_model(tmp_path: Path, model: Path) -> None:
    other = write(tmp_path / "s", {"model.layers.1.weight": np.ones(128, "<f4")})
    with pytest.raises(SourceError, match="have no name that the source has") as caught:
        bale.compress(model, stats=other, pipeline="int4")
    assert caught.value.hint == "there it is model.layers.1.weight, in the source layers.1.weight"


def test_the_statistics_are_never_overwritten(tmp_path: Path, model: Path, stats: Path) -> None:
    before = sha256(stats)
    for choices in ({"out": stats}, {"report": stats}):
        with pytest.raises(OutputError, match="it is the input"):
            bale.compress(model, stats=stats, pipeline="int4", force=True, **choices)
    assert sha256(stats) == before
