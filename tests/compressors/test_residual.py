"""Two layers with loss: low rank, and a quantizer for what it leaves over."""

from dataclasses import replace

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers.linear import Int
from bale.compressors.residual import add, best_rank, code_rest, stored_bits, subtract
from bale.compressors.trellis.codec import Trellis
from bale.errors import Refused
from bale.spec import TensorSpec


def values_of(x, dtype="F32"):
    spec = TensorSpec(dtype, x.shape)
    return Values(spec, from_float32(np.asarray(x, np.float32), spec))


def relative_error(pipeline, values):
    leaves = pipeline.encode(values)
    x = to_float32(values.array, values.spec).astype(np.float64)
    decoded = to_float32(pipeline.decode(leaves, values.spec), values.spec)
    return np.linalg.norm(decoded - x) / np.linalg.norm(x), leaves


def rows_of_all_sizes(seed=0, shape=(96, 80)):
    rng = np.random.default_rng(seed)
    return np.outer(*(np.exp(rng.normal(size=n) * 2) for n in shape)) * np.exp(0.1 * rng.normal(size=shape))


def test_by_hand():
    """The first layer has rank 1 exactly, and the rest has the values 0 and 3 that int8 keeps."""
    x = np.array([[4, 0, 0], [0, 3, 0]], np.float32)
    pipeline = Pipeline.parse("svd:rank=1/int:bits=2")
    leaves = pipeline.encode(values_of(x))
    assert sorted(leaves) == ["rest.qdata", "rest.scale", "rest.zero", "u", "vh"]
    assert leaves["u"].array.tolist() == [[2], [0]]
    assert leaves["rest.qdata"].array.tolist() == [[0, 0, 0], [0, 3, 0]]
    assert pipeline.decode(leaves, TensorSpec("F32", (2, 3))).tolist() == x.tolist()
    assert pipeline.first.decode(leaves, TensorSpec("F32", (2, 3))).tolist() == [[4, 0, 0], [0, 0, 0]]


def test_sums_stay_finite():
    spec = TensorSpec("F32", (1,))
    largest = np.array([3e38], np.float32)
    assert add(largest, largest, spec)[0] == np.finfo(np.float32).max
    assert subtract(-largest, largest, spec)[0] == -np.finfo(np.float32).max


def test_stored_bits_by_hand():
    """Few codes are packed densely, and a scale counts in full."""
    codes = Values(TensorSpec("U8", (8,)), np.array([0, 1, 2, 3, 0, 0, 0, 0], np.uint8), 2)
    assert stored_bits({"qdata": codes, "scale": Values(TensorSpec("F16", (3,)), np.zeros(3, np.uint16))}) == 16 + 48
    one = np.zeros(1 << 12, np.uint8)
    leaves = {"qdata": Values(TensorSpec("U8", one.shape), one, 8)}
    assert stored_bits(leaves) < 8 * one.size / 20
    assert stored_bits(leaves, Pipeline.parse("int8+bitpack").storers) == 8 * one.size
    assert stored_bits(leaves, Pipeline.parse("int8+zstd").storers) < 8 * one.size / 20
    assert stored_bits(leaves, Pipeline.parse("int8+rans").storers) == stored_bits(leaves)


def test_bits_count_factors_as_they_are_forced_to_be_stored():
    values = values_of(np.outer(np.arange(1, 201), np.ones(100)) + np.random.default_rng(0).normal(size=(200, 100)))
    leaves = Pipeline.parse("svd:rank=8+int8+bitpack/trellis:bits=5").encode(values)
    stored = sum(leaf.array.nbytes for leaf in leaves.values())
    assert 4.9 * 200 * 100 / 8 < stored <= 5 * 200 * 100 / 8


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_the_rest_is_coded_with_the_error_of_its_quantizer(dtype):
    values = values_of(rows_of_all_sizes(), dtype)
    error, _ = relative_error(Pipeline.parse("svd:rank=4+int8/int:bits=4"), values)
    alone, _ = relative_error(Pipeline.parse("int:bits=4"), values)
    assert error < 0.25 * alone


def test_floats_of_a_byte_are_refused():
    with pytest.raises(Refused, match="differences of F8_E4M3"):
        Pipeline.parse("svd:rank=1/int4").validate(TensorSpec("F8_E4M3", (40, 40)))


@pytest.mark.parametrize("shape", [(64, 64), (200, 30)])
def test_auto_stores_no_factors_of_noise(shape):
    values = values_of(np.random.default_rng(1).normal(size=shape))
    auto, single = Pipeline.parse("svd:rank=auto+int8/int:bits=3"), Pipeline.parse("int:bits=3")
    error, leaves = relative_error(auto, values)
    assert sorted(leaves) == ["rest.qdata", "rest.scale", "rest.zero"]
    assert error == relative_error(single, values)[0]
    assert not auto.first.decode(leaves, values.spec).any()


def test_auto_finds_the_rank_of_low_rank_and_noise():
    rng = np.random.default_rng(2)
    low = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 200))
    values = values_of(low + 0.05 * rng.normal(size=(300, 200)))
    error, leaves = relative_error(Pipeline.parse("svd:rank=auto+int8/int:bits=3"), values)
    assert leaves["u.qdata"].spec.shape == (300, 5)
    assert error < 0.02


@pytest.mark.parametrize("rest", ["int:bits=3", "trellis:bits=3"])
def test_auto_goes_by_the_error_of_outputs_where_inputs_are_known(rest):
    """Columns of low rank that have all of the input, and noise in twice as many that have nearly none."""
    rng = np.random.default_rng(4)
    low = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 60))
    x = np.concatenate([low, 4 * rng.normal(size=(300, 120))], axis=1)
    second = np.repeat(np.float32([1, 1e-4]), [60, 120])[None]
    pipeline = Pipeline.parse(f"svd:rank=auto+int8/{rest}")
    found = []
    for importance in (None, Importance(second)):
        values = replace(values_of(x), importance=importance)
        leaves = pipeline.encode(values)
        again = pipeline.decode(leaves, values.spec).reshape(x.shape)
        found.append(float((second * (again - values.array) ** 2).sum()))
    assert leaves["u.qdata"].spec.shape[1] >= 2
    assert found[1] < 0.1 * found[0]


def low_rank_and_noise(rank=6, noise=0.02, shape=(320, 256), seed=3):
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1])) / np.sqrt(rank)
    return values_of(low + noise * rng.normal(size=shape))


def size_of(leaves):
    return sum(leaf.array.nbytes for leaf in leaves.values())


@pytest.mark.parametrize("text", ["svd:rank=6+int8/trellis:bits=3", "svd:rank=auto+int8/trellis:bits=3"])
def test_bits_are_those_of_both_layers(text):
    """At most 3 bits a weight in all, and nearly that: the factors are taken from the second layer."""
    values = low_rank_and_noise()
    error, leaves = relative_error(Pipeline.parse(text), values)
    alone, single = relative_error(Pipeline.parse("trellis:bits=3"), values)
    assert 0.98 * size_of(single) < stored_bits(leaves) / 8 <= 3 * values.spec.elements / 8
    assert size_of({"qdata": leaves["rest.qdata"]}) < 0.9 * size_of(single)
    assert error < 0.2 * alone


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
@pytest.mark.parametrize("target", ["error=0.05", "snr=26.0206"])
def test_errors_are_those_of_both_layers(dtype, target):
    values = low_rank_and_noise(noise=0.1)
    values = values_of(to_float32(values.array, values.spec), dtype)
    pipeline = Pipeline.parse(f"svd:rank=6+int8/trellis:{target}")
    error, leaves = relative_error(pipeline, values)
    assert 0.97 * 0.05 < error <= 0.05
    alone = Pipeline.parse(f"trellis:{target}").encode(values)
    assert stored_bits(leaves) / 8 < 0.8 * size_of(alone)


def test_a_second_layer_that_is_not_needed_takes_next_to_nothing():
    values = low_rank_and_noise(noise=0.001)
    error, leaves = relative_error(Pipeline.parse("svd:rank=6/trellis:error=0.1"), values)
    assert leaves["rest.qdata"].array.size < 64
    assert error == pytest.approx(0.001, rel=0.1)
    tiny = values_of(np.ldexp(to_float32(values.array, values.spec), -120))
    assert relative_error(Pipeline.parse("svd:rank=6/trellis:error=0.1"), tiny)[0] < 0.01


def test_bits_that_factors_take_alone_are_refused():
    with pytest.raises(Refused, match=r"of 2 bits a weight the first layer takes 2\.\d\d"):
        Pipeline.parse("svd:rank=40+int8/trellis:bits=2").encode(low_rank_and_noise())


def test_an_error_below_rounding_is_refused():
    values = values_of(np.random.default_rng(0).normal(size=(64, 64)), "BF16")
    with pytest.raises(Refused):
        Pipeline.parse("svd:rank=4+int8/trellis:error=0.001").encode(values)


def test_steps_and_other_quantizers_are_taken_as_they_are():
    values = low_rank_and_noise()
    first = np.zeros(values.spec.shape, np.float32)
    for codec in (Trellis(step=0.1), Int(bits=3)):
        found = code_rest(codec, values, first, 10.0**9)
        alone = codec.encode(values)
        assert all((found[name].array == alone[name].array).all() for name in alone)


@pytest.mark.parametrize("target", ["bits=2", "error=0.1", "step=0.5"])
@pytest.mark.parametrize("make", [lambda: low_rank_and_noise(noise=1, rank=1), lambda: values_of(rows_of_all_sizes())])
def test_auto_is_never_worse_than_the_second_layer_alone(target, make):
    values = make()
    error, leaves = relative_error(Pipeline.parse(f"svd:rank=auto+int8/trellis:{target}"), values)
    alone, single = relative_error(Pipeline.parse(f"trellis:{target}"), values)
    bits = (stored_bits(leaves) - 8 * size_of(single)) / values.spec.elements
    assert 20 * np.log10(max(error, alone) / alone) + 6.02 * bits < 0.05


@pytest.mark.parametrize("target", ["bits=3", "error=0.02", "error=0.2"])
def test_auto_finds_what_hands_find(target):
    values = low_rank_and_noise(noise=0.1)
    costs = {}
    for rank in (1, *range(4, 9), 12, "auto"):
        error, leaves = relative_error(Pipeline.parse(f"svd:rank={rank}+int8/trellis:{target}"), values)
        error = error if "bits" in target else max(error, float(target[6:]))
        costs[rank] = 20 * np.log10(error) + 6.02 * stored_bits(leaves) / values.spec.elements
    assert costs.pop("auto") < min(costs.values()) + 0.3


def test_auto_stops_where_the_error_is_met():
    """Of ten steps in the spectrum, the first few are enough for 20 %; more would only lower the error."""
    rng = np.random.default_rng(5)
    u, v = (np.linalg.qr(rng.normal(size=(n, 10)))[0] for n in (300, 200))
    values = values_of((u * 4.0 ** -np.arange(10)) @ v.T)
    error, leaves = relative_error(Pipeline.parse("svd:rank=auto+int8/trellis:error=0.2"), values)
    assert leaves["u.qdata"].spec.shape[1] <= 2
    assert 0.01 < error <= 0.2


@pytest.mark.parametrize("domain", ["log", "sqrt"])
def test_auto_behind_positive(domain):
    x = np.abs(rows_of_all_sizes(shape=(320, 256))) ** 2
    x[3] = 0
    values = values_of(x)
    pipeline = Pipeline.parse(f"positive:domain={domain}+svd:rank=auto+int8/trellis:bits=3")
    error, leaves = relative_error(pipeline, values)
    alone, _ = relative_error(Pipeline.parse("trellis:bits=3"), values)
    assert {"value.u.qdata", "value.vh.qdata", "zeros", "least", "rest.qdata"} <= set(leaves)
    assert [name for name in leaves if not name.startswith("value")] == ["zeros", "least", "rest.qdata"]
    assert error < 0.8 * alone
    assert set(leaves) <= {bound.name for bound in pipeline.leaves(values.spec)}


def test_of_rank_zero_nothing_is_left():
    values = values_of(np.square(np.random.default_rng(1).normal(size=(64, 80))))
    pipeline = Pipeline.parse("positive:domain=sqrt+svd:rank=auto+int8/trellis:bits=3")
    _, leaves = relative_error(pipeline, values)
    assert sorted(leaves) == ["rest.qdata"]
    assert all(bound.optional for bound in pipeline.leaves(values.spec) if not bound.name.startswith("rest."))
    assert sorted(pipeline.unpack(leaves, values.spec)) == ["rest.qdata"]
    with pytest.raises(ValueError, match="missing"):
        pipeline.decode({**leaves, "least": values_of(np.ones(1))}, values.spec)


def test_the_search_by_hand():
    """Costs rise once, then fall to rank 11, and rise from there; then those near 8, of which 10 is refused."""
    tried = []

    def code(rank):
        tried.append(rank)
        if rank == 10:
            raise Refused("for once")
        size = 12 if rank == 0 else 13 if rank == 1 else abs(rank - 11)
        return {"r": Values(TensorSpec("F32", (size,)), np.full(size, rank, np.float32))}

    values = values_of(np.ones((2, 2)))
    best = best_rank(100, code, lambda leaves: np.zeros((2, 2), np.float32), Int(), values)
    assert best["r"].array.tolist() == [9, 9]
    assert tried == [0, 1, 2, 4, 8, 16, 32, 6, 10, 7, 9]


def test_a_bump_at_low_ranks_is_passed():
    """Ranks 1 and 2 cost more and more, 3 the least."""
    tried = []

    def code(rank):
        tried.append(rank)
        size = (5, 6, 7, 1, 4, 3, 8, 8, 8)[rank]
        return {"r": Values(TensorSpec("F32", (size,)), np.full(size, rank, np.float32))}

    values = values_of(np.ones((2, 2)))
    assert best_rank(8, code, lambda leaves: values.array, Int(), values)["r"].array.tolist() == [3]
    assert tried == [0, 1, 2, 4, 8, 3, 5]


def test_the_search_ends_when_ranks_cost_more_and_more():
    tried = []

    def code(rank):
        tried.append(rank)
        return {"r": Values(TensorSpec("F32", (rank,)), np.zeros(rank, np.float32))}

    values = values_of(np.ones((2, 2)))
    assert best_rank(100, code, lambda leaves: values.array, Int(), values)["r"].spec.shape == (0,)
    assert tried == [0, 1, 2, 4]


def test_a_rank_of_zero_that_is_refused_is_refused():
    def code(rank):
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        best_rank(4, code, lambda leaves: np.zeros(0), Int(), values_of(np.ones((2, 2))))


@pytest.mark.parametrize(("codec", "best"), [(Int(), 2), (Trellis(bits=3.0), 2), (Trellis(error=0.5), 1)])
def test_less_error_than_asked_for_is_worth_nothing(codec, best):
    """Rank 1 saves a float at the error of rank 0; rank 2 takes it again, and halves the error 10 times."""
    values = values_of(np.ones((2, 2)))
    errors = (0.5, 0.5, 0.5 * 2.0**-20)
    sizes = (3, 2, 3)

    def code(rank):
        return {"r": Values(TensorSpec("F32", (sizes[rank],)), np.full(sizes[rank], rank, np.float32))}

    def decode(leaves):
        return values.array - np.float32(errors[int(leaves["r"].array[0])])

    assert best_rank(2, code, decode, codec, values)["r"].array[0] == best
