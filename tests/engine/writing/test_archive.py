"""Round trips through compress and decompress: the whole file comes back, byte for byte."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bale
from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.report.model import Report
from bale.spec import DTYPES, TensorSpec
from tests.making import PORTABLE, Raw, bf16, random_raw, weights, write

SHAPES = [(), (0,), (3, 0), (1,), (7,), (5, 9), (16, 24), (2, 1, 3, 2, 5)]


def round_trip(source: Path, **choices: object) -> Report:
    """Compress and decompress; assert that the very file came back."""
    archive, back = source.with_name("archive.bale"), source.with_name("back")
    report = bale.compress(source, archive, threads=2, force=True, **choices)  # type: ignore[arg-type]
    done = bale.decompress(archive, back, threads=2, force=True)
    assert back.read_bytes() == source.read_bytes()
    assert done.exact
    return report


def lossy(source: Path, **choices: object) -> tuple[Report, dict[str, np.ndarray]]:
    """Compress with loss; the report and the tensors as they come back in a checkpoint."""
    archive, back = source.with_name("archive.bale"), source.with_name("back.safetensors")
    report = bale.compress(source, archive, force=True, **choices)  # type: ignore[arg-type]
    bale.decompress(archive, back, force=True)
    with bale.open(archive) as tensors:
        found = {name: np.array(tensors.bits(name)) for name in tensors}
    return report, found


def row(report: Report, name: str) -> dict:
    return next(row for row in report.to_json()["tensors"] if row["name"] == name)


@pytest.mark.parametrize("dtype", PORTABLE)
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: str) -> None:
    shapes = [shape for shape in SHAPES if TensorSpec(dtype, shape).elements * DTYPES[dtype].bits % 8 == 0]
    source = write(
        tmp_path / "all.safetensors",
        {f"t{number}": random_raw(dtype, shape, number) for number, shape in enumerate(shapes)},
    )
    report = round_trip(source)
    assert [tuple(each["shape"]) for each in report.to_json()["tensors"]] == shapes
    assert len(shapes) >= 4


STREAMED = [
    *("nf4", "codebook:bits=3", "log:mu=255.0", "fp8:group=tensor", "mxfp6", "nvfp4", "int:group=column"),
    *("int:bits=4,group=64,rows=48,scale=log", "int:bits=1,clip=mse,zero=float", "positive:domain=sqrt+int8"),
]


@pytest.mark.parametrize("choice", STREAMED)
def test_long_tensors_are_coded_as_if_they_were_whole(tmp_path: Path, choice: str) -> None:
    x = np.square(weights(1100, 1000)) if choice.startswith("positive") else weights(1100, 1000)
    source = write(tmp_path / "m.safetensors", {"w": x})
    report, found = lossy(source, pipeline=choice, threads=2)
    spec, pipeline = TensorSpec("F32", x.shape), Pipeline.parse(choice)
    again = pipeline.decode(pipeline.encode(Values(spec, x)), spec)
    assert found["w"].tobytes() == again.tobytes()
    assert row(report, "w")["relative_error"] == pytest.approx(np.linalg.norm(again - x) / np.linalg.norm(x), rel=1e-5)
    bale.compress(source, tmp_path / "alone.bale", pipeline=choice, threads=1)
    assert (tmp_path / "alone.bale").read_bytes() == (tmp_path / "archive.bale").read_bytes()


@pytest.mark.parametrize(
    "choice",
    ["lossless", "int4", "int8", "nf4", "nvfp4", "svd:rank=2+int8", "trellis:snr=20", "huffman", "zstd", "bitpack"],
)
@pytest.mark.parametrize("dtype", PORTABLE)
def test_every_pipeline_takes_a_tensor_or_says_why_not(tmp_path: Path, dtype: str, choice: str) -> None:
    shapes = [shape for shape in SHAPES if TensorSpec(dtype, shape).elements * DTYPES[dtype].bits % 8 == 0]
    tensors = {f"t{number}": random_raw(dtype, shape, number) for number, shape in enumerate(shapes)}
    # one float matrix that every codec can take, so that the rule is not refused as a whole
    source = write(tmp_path / "all.safetensors", {**tensors, "anchor": weights(64, 64)})
    report, found = lossy(source, rules=[f"*={choice}"])
    for name, raw in tensors.items():
        told = row(report, name)
        if told["pipeline"] == "lossless" and choice != "lossless":
            assert told["notes"], name
        if told["relative_error"] == 0:
            assert found[name].tobytes() == raw.data
        else:
            assert DTYPES[dtype].kind == "float"
        assert told["dtype"] == dtype


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_pattern_of_16_bits(tmp_path: Path, dtype: str) -> None:
    every = np.arange(1 << 16, dtype="<u2")
    round_trip(write(tmp_path / "a", {"w": Raw.of(every.reshape(256, 256), dtype), "r": Raw.of(every[::-1], dtype)}))


@pytest.mark.parametrize("dtype", [name for name in PORTABLE if DTYPES[name].bits == 8 and name != "BOOL"])
def test_every_pattern_of_8_bits(tmp_path: Path, dtype: str) -> None:
    round_trip(write(tmp_path / "a", {"w": Raw.of(np.tile(np.arange(256, dtype=np.uint8), 40), dtype)}))


def test_nan_payloads_and_odd_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    single = rng.integers(0, 1 << 32, 200_000, dtype="<u4") | np.uint32(0x7F800000)
    double = rng.integers(0, 1 << 64, 100_000, dtype="<u8") | np.uint64(0x7FF << 52)
    special = np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, 2.2e-308, 1.7e308])
    source = write(
        tmp_path / "a",
        {
            "f32": Raw.of(single, "F32"),
            "f64": Raw.of(double, "F64"),
            "special": special,
            "c64": Raw("C64", (500,), single[:1000].tobytes()),
        },
    )
    round_trip(source)


def test_header_as_it_stood_comes_back(tmp_path: Path) -> None:
    """Entries in any order, metadata, padding, and names that JSON has to escape."""
    tensors = {"z": weights(3), 'a\n"\\/ü': weights(4), "": weights(2), ":manifest": weights(5), "x:data": weights(6)}
    source = write(tmp_path / "m.safetensors", tensors, {"k": "v\u2028", "": "x"}, listed=sorted(tensors), padding=13)
    report = round_trip(source)
    assert {each["name"] for each in report.to_json()["tensors"]} == set(tensors)


def test_a_bale_is_a_safetensors_file(model: Path) -> None:
    from safetensors import safe_open

    archive = model.with_name("m.bale")
    bale.compress(model, archive, pipeline="int4")
    with safe_open(archive, framework="np") as file:
        assert {"layers.1.weight:qdata", "layers.1.weight:scale", "layers.1.bias:data", ":manifest"} <= set(file.keys())
        assert file.metadata()["bale"] == "1.1"


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda name: name != "__metadata__")
_METADATA = st.dictionaries(_NAMES.filter(lambda key: key != "bale"), _NAMES, max_size=3)  # that key marks archives
_TENSORS = st.dictionaries(
    _NAMES,
    st.tuples(st.sampled_from(PORTABLE), st.lists(st.integers(0, 9), max_size=4), st.integers(0, 5)),
    max_size=8,
)


def _random_checkpoint(path: Path, tensors: dict, metadata: dict | None, shuffle: st.DataObject) -> None:
    raws = {}
    for name, (dtype, shape, seed) in tensors.items():
        if TensorSpec(dtype, tuple(shape)).elements * DTYPES[dtype].bits % 8:
            shape = [*shape, 4]
        raws[name] = random_raw(dtype, shape, seed)
    listed = shuffle.draw(st.permutations(list(raws)))
    round_trip(write(path / "m.safetensors", raws, metadata, listed, padding=len(raws)))


@settings(max_examples=100)
@given(_TENSORS, st.none() | _METADATA, st.data())
def test_random_checkpoints(tmp_path: Path, tensors: dict, metadata: dict | None, data: st.DataObject) -> None:
    _random_checkpoint(tmp_path, tensors, metadata, data)


@pytest.mark.soak
@settings(max_examples=2000)
@given(_TENSORS, st.none() | _METADATA, st.data())
def test_many_random_checkpoints(tmp_path: Path, tensors: dict, metadata: dict | None, data: st.DataObject) -> None:
    _random_checkpoint(tmp_path, tensors, metadata, data)


def test_a_name_of_4_kilobytes(tmp_path: Path) -> None:
    name = (string.ascii_letters + "/.\n\u00e4\U0001f600") * 75
    assert len(name.encode()) > 4096
    round_trip(write(tmp_path / "m.safetensors", {name: weights(10, 10)}))


def test_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    report = round_trip(write(tmp_path / "m.safetensors", {}, {"only": "metadata"}))
    assert report.to_json()["tensors"] == []
    assert report.to_json()["totals"]["bits_per_weight"] is None


def test_many_tiny_tensors_cost_at_most_256_bytes_each(tmp_path: Path) -> None:
    count = 2000
    rng = np.random.default_rng(0)
    tensors = {f"model.layers.{n}.norm.weight": rng.standard_normal(16).astype("<f4") for n in range(count)}
    totals = round_trip(write(tmp_path / "m.safetensors", tensors)).to_json()["totals"]
    assert totals["overhead_bytes"] <= 256 * count


def test_opaque_bytes(tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_bytes(b"neither safetensors nor torch" * 100)
    document = round_trip(source).to_json()
    assert document["source"]["kind"] == "opaque"
    assert len(document["notes"]) == 1


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    shared, other = weights(64, 64), weights(64, 64, seed=9)
    source = write(tmp_path / "m.safetensors", {"a": shared, "b": other, "c": shared, "d": shared.reshape(32, 128)})
    for choice in (None, "int8"):
        report = round_trip(source) if choice is None else lossy(source, pipeline=choice)[0]
        assert [each["same_as"] for each in report.to_json()["tensors"]] == [None, None, "a", None]
        assert row(report, "c")["parts"] == {}
        assert row(report, "c")["stored_bytes"] == 0
        assert row(report, "c")["relative_error"] == row(report, "a")["relative_error"]


def test_equal_tensors_with_other_pipelines_are_not_shared(tmp_path: Path) -> None:
    shared = weights(64, 64)
    source = write(tmp_path / "m.safetensors", {"a": shared, "b": shared})
    report, found = lossy(source, rules=["a=int8"])
    assert row(report, "b")["same_as"] is None
    assert found["b"].tobytes() == shared.tobytes()
    assert found["a"].tobytes() != shared.tobytes()


def test_tensors_that_are_nearly_equal_are_not_shared(tmp_path: Path) -> None:
    """They differ in one byte, at the end that a look at the middle does not see, or within it."""
    one = weights(100, 100)
    tensors = {"one": one}
    for at in (0, 5000, 9999):
        other = one.copy()
        other.flat[at] += np.float32(1)
        tensors[f"other {at}"] = other
    report = round_trip(write(tmp_path / "m.safetensors", tensors))
    assert {each["same_as"] for each in report.to_json()["tensors"]} == {None}


def test_notes_of_equal_tensors_stand_once(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"a": weights(64), "b": weights(64), "w": weights(64, 64)})
    report = bale.compress(source, pipeline="int4")
    assert row(report, "b")["same_as"] == "a"
    assert row(report, "b")["notes"] == row(report, "a")["notes"]
    assert len(row(report, "a")["notes"]) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("elements", [64 * 64, (1 << 20) + 4096])
def test_what_is_not_finite_is_kept_with_a_note(tmp_path: Path, value: float, elements: int) -> None:
    bad, good = weights(elements // 64, 64), weights(64, 64, seed=1)
    bad[-1, -1] = value
    report, found = lossy(write(tmp_path / "m.safetensors", {"bad": bad, "good": good}), pipeline="int4")
    assert found["bad"].tobytes() == bad.tobytes()
    assert row(report, "bad")["pipeline"] == "lossless"
    assert "NaN or infinity" in row(report, "bad")["notes"][0]
    assert row(report, "good")["pipeline"] == "int4"
    assert report.to_json()["totals"]["relative_error"] > 0


def test_doubles_beyond_float32_are_kept_with_a_note(tmp_path: Path) -> None:
    large = weights(64, 64).astype("<f8")
    large[3, 3] = 1e39
    report, found = lossy(write(tmp_path / "m.safetensors", {"large": large, "w": weights(64, 64)}), pipeline="int8")
    assert found["large"].tobytes() == large.tobytes()
    assert "float32" in row(report, "large")["notes"][0]


def test_factors_are_kept_by_force_even_where_they_are_larger(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    report, _ = lossy(source, rules=["w=svd:rank=60,force=true"])
    (row,) = report.to_json()["tensors"]
    assert row["pipeline"] == "svd:rank=60,force=true"
    assert row["stored_bytes"] > row["original_bytes"]


@pytest.mark.parametrize("choice", ["int:bits=8,group=1", "svd:error=0.0001"])
def test_what_loss_would_not_make_smaller_is_stored_exactly(tmp_path: Path, choice: str) -> None:
    raw = bf16(weights(64, 64))
    source = write(tmp_path / "m.safetensors", {"w": raw, "easy": weights(256, 1) @ weights(1, 256)})
    report, found = lossy(source, rules=[f"w={choice}", "easy=svd:rank=1"])
    assert found["w"].tobytes() == raw.data
    assert row(report, "w")["pipeline"] == "lossless"
    assert row(report, "w")["relative_error"] == 0
    assert row(report, "w")["stored_bytes"] <= row(report, "w")["original_bytes"]
    assert row(report, "w")["notes"]
    assert row(report, "easy")["pipeline"] == "svd:rank=1"


@pytest.mark.parametrize("choice", ["huffman", "zstd", "lossless"])
def test_what_a_forced_chain_would_make_larger_is_stored_plainly(tmp_path: Path, choice: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
    report = round_trip(write(tmp_path / "m.safetensors", {"w": noise}), rules=[f"w={choice}"])
    assert row(report, "w")["stored_bytes"] == 5000


def test_the_archive_takes_mode_and_time_of_its_source(model: Path) -> None:
    model.chmod(0o640)
    os.utime(model, (1_000_000_000, 1_234_567_890))
    archive, back = model.with_name("m.bale"), model.with_name("back")
    bale.compress(model, archive)
    bale.decompress(archive, back)
    for path in (archive, back):
        assert path.stat().st_mode & 0o777 == 0o640
        assert path.stat().st_mtime == 1_234_567_890


def test_the_report_lies_beside_the_archive(model: Path) -> None:
    report = bale.compress(model, pipeline="int4")
    assert json.loads(model.with_name("model.lossy.safetensors.bale.report.json").read_text()) == report.to_json()


def test_without_verifying_the_bytes_are_the_same(model: Path) -> None:
    one, other = model.with_name("1.bale"), model.with_name("2.bale")
    checked = bale.compress(model, one, pipeline="int4").to_json()
    unchecked = bale.compress(model, other, pipeline="int4", verify=False).to_json()
    assert one.read_bytes() == other.read_bytes()
    assert (checked["verified"], unchecked["verified"]) == (True, False)
    assert checked["archive"]["sha256"] is not None
    assert unchecked["archive"]["sha256"] is None
    assert [each["relative_error"] for each in checked["tensors"]] == [
        each["relative_error"] for each in unchecked["tensors"]
    ]


def test_reading_back_finds_a_write_that_went_wrong(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that every chunk is read back, decoded and compared; it is the reason for `verified`."""
    from bale.errors import OutputError
    from bale.io.storage import commit

    honest = commit.write_at

    def flipping(descriptor: int, data: object, offset: int, what: str) -> None:
        changed = bytearray(memoryview(data).cast("B"))  # type: ignore[arg-type]
        changed[len(changed) // 2] ^= 1
        honest(descriptor, changed, offset, what)

    monkeypatch.setattr(commit, "write_at", flipping)
    with pytest.raises(OutputError, match="read back"):
        bale.compress(model)
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]


def test_a_source_that_changes_meanwhile_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bale.engine.estimate import resolve
    from bale.errors import SourceError

    honest = resolve.find_duplicates

    def touching(*arguments: object) -> object:
        os.utime(model, (1, 1))
        return honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(resolve, "find_duplicates", touching)
    with pytest.raises(SourceError, match="changed while it was being read"):
        bale.compress(model)
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]
