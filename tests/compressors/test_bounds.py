"""The error that each lossy codec states, on random tensors and on those that codecs tend to break on."""

import numpy as np
import pytest

from bale.compressors.base import Transform, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused
from bale.spec import TensorSpec
from tests.compressors.bounds import TEXTS, within_bound
from tests.compressors.cases import adversarial

LOSSY = [
    text
    for texts in TEXTS.values()
    for text in texts
    if isinstance(Pipeline.parse(text).stages[0], Transform) and Pipeline.parse(text).rest is None
]
DTYPES = ("F32", "BF16", "F16", "F64")
ENOUGH = 200

pytestmark = pytest.mark.filterwarnings("error")


def check(text, seeds):
    """Count the tensors that are taken; each keeps the bound, and what is refused is for a reason."""
    pipeline = Pipeline.parse(text)
    stage, taken = pipeline.stages[0], 0
    for seed in seeds:
        cases = adversarial(seed) if getattr(stage, "least_ndim", 2) == 2 else adversarial(seed, 3, 9)
        for number, (name, x) in enumerate(cases.items()):
            spec = TensorSpec(DTYPES[(seed + number) % len(DTYPES)], x.shape)
            array = from_float32(np.abs(x) if stage.name == "positive" else x, spec)
            try:
                pipeline.validate(spec)
                parts = pipeline.encode(Values(spec, array))
            except Refused:
                continue
            decoded = to_float32(pipeline.decode(parts, spec), spec).astype(np.float64)
            assert np.isfinite(decoded).all(), (name, seed)
            assert within_bound(stage, to_float32(array, spec).astype(np.float64), decoded, parts, spec), (name, seed)
            taken += 1
    return taken


@pytest.mark.parametrize("text", LOSSY)
def test_a_few(text):
    assert check(text, range(1)) > 2


@pytest.mark.soak
@pytest.mark.parametrize("text", LOSSY)
def test_two_hundred(text):
    assert check(text, range(100, 140)) >= ENOUGH


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("text", LOSSY)
def test_what_is_not_finite_is_never_coded(text, bad):
    for dtype in DTYPES:
        spec = TensorSpec(dtype, (16, 4, 3))
        x = np.abs(np.random.default_rng(0).normal(size=spec.shape)).astype(np.float32)
        x[3, 2, 1] = bad
        array = np.where(np.isfinite(x), x, 0).astype(np.float32)
        bits = from_float32(array, spec)
        if dtype == "BF16":
            bits[3, 2, 1] = np.array(bad, np.float32).view(np.uint32) >> 16
        else:
            bits[3, 2, 1] = bad
        with pytest.raises(Refused):
            Pipeline.parse(text).encode(Values(spec, bits))
