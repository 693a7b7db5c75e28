"""Export to GGUF: blocks by hand, the header of the source, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import OutputError, UsageError
from bale.export.exporting import Exported, export
from bale.io.sources.gguf.header import Header, read_header
from bale.spec import CHUNK_LIMIT
from tests.io.in_memory import InMemory
from tests.io.sources.samples import gguf
from tests.making import bf16, names_in, weights, write

Q8_0 = "int:bits=8,group=32,symmetric=true,scale=fp16"
Q4_0 = "int:bits=4,group=32,symmetric=true,scale=fp16"
LAYER = "blk.0.ffn_up.weight"
FAR_OFF = np.where(np.arange(64) < 32, 1, -1)[:, None]

Tensors = dict[str, tuple[int, tuple[int, ...], bytes]]


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


WORDS = text(b"a") + text(bytes(2 << 20))  # so long that it is stored in chunks
KEYS = (
    text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama"),
    text(b"general.file_type") + struct.pack("<II", 4, 1),
    text(b"words") + struct.pack("<IIQ", 9, 8, 2) + WORDS,
)


def made(values: np.ndarray, kind: int = 0) -> tuple[int, tuple[int, ...], bytes]:
    """A tensor of a GGUF file: F32, F16 (1) or BF16 (30)."""
    if kind == 30:
        return kind, values.shape, bf16(values).data
    return kind, values.shape, values.astype("<f2" if kind else "<f4").tobytes()


def archive(folder: Path, tensors: Tensors, pipeline: str = Q4_0, keys: tuple[bytes, ...] = KEYS) -> Path:
    """The archive of a GGUF file of these tensors."""
    (folder / "m.gguf").write_bytes(gguf(tensors, b"".join(keys), len(keys)))
    bale.compress(folder / "m.gguf", pipeline=pipeline, out=folder / "m.bale")
    return folder / "m.bale"


def to_gguf(folder: Path, tensors: Tensors, pipeline: str = Q4_0, **options: bool) -> Exported:
    return export(archive(folder, tensors, pipeline), "gguf", folder / "out.gguf", **options)


def values_in(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a GGUF file as bale reads them: blocks as bytes."""
    bale.compress(path, path.with_suffix(".again.bale"))
    with bale.open(path.with_suffix(".again.bale")) as tensors:
        return {name: tensors[name] for name in tensors}


def dequantized(blocks: np.ndarray) -> np.ndarray:
    """Weights (F32) of blocks, which are told by their length: the rule of the format, by itself."""
    width = blocks.shape[-1]
    half = blocks[..., :2].copy().view("<f2").astype(np.float32)
    if width == 34:
        found = half * blocks[..., 2:].view(np.int8).astype(np.float32)
    else:
        low, high = blocks[..., -16:] & 15, blocks[..., -16:] >> 4
        codes = np.concatenate([low, high], axis=-1).astype(np.float32)
        found = half * (codes - 8) if width == 18 else half * codes + blocks[..., 2:4].copy().view("<f2")
    return found.reshape(*blocks.shape[:-2], -1)


def header(path: Path) -> Header:
    return read_header(InMemory(path.read_bytes()))


@pytest.mark.parametrize("shape", [(64, 128), (48, 96), (3, 32, 64), (CHUNK_LIMIT // 512 + 3, 544)])
@pytest.mark.parametrize(
    ("pipeline", "scheme", "width"),
    [
        (Q8_0, "Q8_0", 34),
        (Q4_0, "Q4_0", 18),
        ("int:bits=8,symmetric=true", "Q8_0", 34),
        ("int:bits=4,group=64,symmetric=true,scale=fp16", "Q4_0", 18),
        ("int:bits=4,group=32,symmetric=true,scale=fp16,clip=mse", "Q4_0", 18),
    ],
)
def test_the_numbers_are_those_of_the_archive(
    tmp_path: Path, shape: tuple[int, ...], pipeline: str, scheme: str, width: int
) -> None:
    done = to_gguf(tmp_path, {LAYER: made(weights(*shape))}, pipeline)
    assert done.schemes == {LAYER: scheme}
    assert done.bytes == (tmp_path / "out.gguf").stat().st_size
    blocks = values_in(tmp_path / "out.gguf")[LAYER]
    assert blocks.shape == (*shape[:-1], shape[-1] // 32, width)
    with bale.open(tmp_path / "m.bale") as tensors:
        assert np.array_equal(dequantized(blocks), tensors[LAYER])


@pytest.mark.parametrize("kind", [1, 30])
def test_values_in_16_bits_are_those_of_blocks_rounded(tmp_path: Path, kind: int) -> None:
    to_gguf(tmp_path, {LAYER: made(weights(64, 128), kind)}, Q8_0)
    found = dequantized(values_in(tmp_path / "out.gguf")[LAYER])
    with bale.open(tmp_path / "m.bale") as tensors:
        assert np.array_equal(found.astype(tensors[LAYER].dtype), tensors[LAYER])


@pytest.mark.parametrize(("pipeline", "least"), [(Q8_0, 127), (Q4_0, 7)])
def test_every_code_has_its_place(tmp_path: Path, pipeline: str, least: int) -> None:
    codes = np.resize(np.arange(-least, least + 1, dtype=np.float32), (64, 256))
    codes[:, ::32] = least
    to_gguf(tmp_path, {LAYER: made(codes / 4)}, pipeline)
    assert np.array_equal(dequantized(values_in(tmp_path / "out.gguf")[LAYER]), codes / 4)


@pytest.mark.parametrize("pipeline", ["int:bits=4,group=32", "int:bits=4,group=32,zero=float"])
def test_offsets_of_q4_1_are_rounded_where_that_is_asked_for(tmp_path: Path, pipeline: str) -> None:
    tensors = {LAYER: made(weights(256, 256) + np.float32(0.01))}
    with pytest.raises(UsageError, match="offsets are no numbers of F16"):
        to_gguf(tmp_path, tensors, pipeline)
    done = export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf", lossy_scales=True)
    assert done.schemes == {LAYER: "Q4_1 (offsets rounded)"}
    blocks = values_in(tmp_path / "out.gguf")[LAYER]
    step = np.repeat(blocks[..., :2].copy().view("<f2")[..., 0].astype(np.float32), 32, axis=-1)
    with bale.open(tmp_path / "m.bale") as opened:
        off = np.abs(dequantized(blocks) - opened[LAYER]) / step
    assert 0 < off.max() < 0.0075


def test_offsets_that_are_numbers_of_f16_are_exact(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-5, 11, (64, 128)).astype(np.float32)
    values[:, ::32], values[:, 1::32] = -5, 10
    done = to_gguf(tmp_path, {LAYER: made(values)}, "int:bits=4,group=32")
    assert done.schemes == {LAYER: "Q4_1"}
    assert np.array_equal(dequantized(values_in(tmp_path / "out.gguf")[LAYER]), values)


def test_scales_are_rounded_where_that_is_asked_for(tmp_path: Path) -> None:
    tensors = {LAYER: made(weights(64, 128))}
    with pytest.raises(UsageError, match="scales are no numbers of F16") as refused:
        to_gguf(tmp_path, tensors, "int:bits=8,group=32,symmetric=true,scale=fp32")
    assert "--lossy-scales" in refused.value.hint
    done = export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf", lossy_scales=True)
    assert done.schemes == {LAYER: "Q8_0 (scales rounded)"}


@pytest.mark.parametrize(
    ("values", "pipeline", "reason"),
    [
        (weights(64, 128) * np.float32(1e9), "int:bits=8,group=32,symmetric=true", "beyond F16"),
        (weights(64, 128) * np.float32(1e-8), "int:bits=8,group=32,symmetric=true", "beyond F16"),
        (
            weights(64, 128) + np.where(np.arange(64) < 32, 1, -1)[:, None],
            "int:bits=4,group=32,zero=float",
            "11 bits of F16",
        ),
    ],
)
def test_rounding_that_changes_more_than_last_bits_is_refused(
    tmp_path: Path, values: np.ndarray, pipeline: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        to_gguf(tmp_path, {LAYER: made(values)}, pipeline, lossy_scales=True)


def test_all_else_is_the_source(tmp_path: Path) -> None:
    quantized = np.random.default_rng(0).bytes(64 * 144)
    tensors = {
        "token_embd.weight": made(weights(64, 128), 1),
        "blk.0.attn_norm.weight": made(weights(256), 0),
        "blk.0.attn_q.weight": (12, (64, 256), quantized),  # Q4_K
        LAYER: made(weights(64, 128), 1),
    }
    to_gguf(tmp_path, tensors, Q8_0)
    found = values_in(tmp_path / "out.gguf")
    assert found["blk.0.attn_q.weight"].tobytes() == quantized
    assert found["blk.0.attn_norm.weight"].tobytes() == tensors["blk.0.attn_norm.weight"][2]
    before, after = header(tmp_path / "m.gguf"), header(tmp_path / "out.gguf")
    assert [entry.kind.name for entry in after.entries if entry.kind] == ["Q8_0", "F32", "Q4_K", "Q8_0"]
    assert [(entry.name, entry.shape) for entry in after.entries] == [(e.name, e.shape) for e in before.entries]
    source, out = ((tmp_path / name).read_bytes() for name in ("m.gguf", "out.gguf"))
    at = before.keys.file_type_at
    assert at is not None
    assert struct.unpack_from("<I", out, at) == (7,)  # mostly Q8_0
    assert (
        out[:at] + source[at : at + 4] + out[at + 4 : out.index(WORDS) + len(WORDS)]
        == source[: source.index(WORDS) + len(WORDS)]
    )


@pytest.mark.parametrize("alignment", [32, 64])
def test_without_loss_it_is_the_source_itself(tmp_path: Path, alignment: int) -> None:
    keys = (*KEYS, text(b"general.alignment") + struct.pack("<II", 4, alignment))
    small = archive(tmp_path, {"a": made(weights(4, 32)), "b": made(weights(32))}, "lossless", keys[: alignment // 16])
    export(small, "gguf", tmp_path / "out.gguf")
    assert values_in(tmp_path / "out.gguf").keys() == {"a", "b"}
    assert alignment == 64 or (tmp_path / "out.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()


def test_tensors_lie_in_the_order_of_the_directory(tmp_path: Path) -> None:
    data = bytearray(gguf({"a": made(np.full((64, 64), 1.0)), "b": made(np.full((64, 64), 2.0))}))
    first, second = (entry.at + 4 for entry in read_header(InMemory(bytes(data))).entries)
    data[first : first + 8], data[second : second + 8] = data[second : second + 8], data[first : first + 8]
    (tmp_path / "m.gguf").write_bytes(data)
    bale.compress(tmp_path / "m.gguf", out=tmp_path / "m.bale")
    export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf")
    assert [entry.offset for entry in header(tmp_path / "out.gguf").entries] == [0, 1 << 14]
    assert {name: each.flat[0] for name, each in values_in(tmp_path / "out.gguf").items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.ffn_gate_inp.weight", (64, 128)),
        ("position_embd.weight", (64, 128)),
        ("blk.0.ssm_conv1d.weight", (64, 128)),
        ("blk.0.ssm_a", (64, 128)),
        (LAYER, (128, 48)),
    ],
)
def test_what_llama_cpp_does_not_quantize_is_dense(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    done = to_gguf(tmp_path, {name: made(weights(*shape))})
    assert done.schemes == {name: "dense"}
    assert struct.unpack_from("<I", (tmp_path / "out.gguf").read_bytes(), header(tmp_path / "out.gguf").entries[0].at)
    with bale.open(tmp_path / "m.bale") as tensors:
        assert np.array_equal(values_in(tmp_path / "out.gguf")[name], tensors[name])


REFUSED = {
    "trellis:bits=4": "has no form there",
    "int:bits=5,group=32,symmetric=true": "blocks have 4 or 8",
    "int:bits=8,group=32": "zero points",
    "int:bits=4,group=48,symmetric=true": "not made of 32 weights",
    "int:bits=4,group=column,symmetric=true": "not made of 32 weights",
}


@pytest.mark.parametrize("pipeline", REFUSED)
def test_what_would_be_rounded_again_is_refused_by_name(tmp_path: Path, pipeline: str) -> None:
    tensors = {LAYER: made(weights(64, 128))}
    with pytest.raises(UsageError, match=REFUSED[pipeline]) as refused:
        to_gguf(tmp_path, tensors, pipeline)
    assert LAYER in str(refused.value)
    assert "group=32,symmetric=true,scale=fp16" in refused.value.hint
    assert "out.gguf" not in names_in(tmp_path)
    export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf", dense=["blk*"])
    with bale.open(tmp_path / "m.bale") as opened:
        assert np.array_equal(values_in(tmp_path / "out.gguf")[LAYER], opened[LAYER])


def test_the_source_must_be_one_gguf_file(tmp_path: Path) -> None:
    bale.compress(write(tmp_path / "m.safetensors", {"w": weights(8, 32)}), out=tmp_path / "m.bale")
    with pytest.raises(UsageError, match="of kind safetensors") as refused:
        export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf")
    assert "convert the model to GGUF" in refused.value.hint
    (tmp_path / "model").mkdir()
    for number in (1, 2):
        name = f"m-0000{number}-of-00002.gguf"
        (tmp_path / "model" / name).write_bytes(gguf({LAYER: made(weights(64, 128))}))
    bale.compress(tmp_path / "model", pipeline=Q4_0, out=tmp_path / "small")
    with pytest.raises(UsageError, match="holds 2 archives") as refused:
        export(tmp_path / "small", "gguf", tmp_path / "out.gguf")
    assert "under the name of the shard" in refused.value.hint
    done = export(tmp_path / "small/m-00001-of-00002.gguf.bale", "gguf", tmp_path / "m-00001-of-00002.gguf")
    assert done.schemes == {LAYER: "Q4_0"}


@pytest.mark.parametrize(("patch", "reason"), [("type", "types that are not known"), ("order", "big-endian")])
def test_what_cannot_be_exchanged_is_refused(tmp_path: Path, patch: str, reason: str) -> None:
    data = bytearray(gguf({LAYER: made(np.zeros((32, 32))), "odd": made(np.zeros((32, 32)))}))
    if patch == "type":
        struct.pack_into("<I", data, read_header(InMemory(bytes(data))).entries[1].at, 99)
    else:
        data = bytearray(b"GGUF" + struct.pack(">IQQ", 3, 1, 0) + struct.pack(">Q1sIQIQ", 1, b"w", 1, 4, 0, 0))
        data += bytes(-len(data) % 32) + bytes(16)
    (tmp_path / "m.gguf").write_bytes(data)
    bale.compress(tmp_path / "m.gguf", out=tmp_path / "m.bale")
    before = names_in(tmp_path)
    with pytest.raises(UsageError, match=reason):
        export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf")
    assert names_in(tmp_path) == before


def test_what_is_there_stays(tmp_path: Path) -> None:
    to_gguf(tmp_path, {LAYER: made(weights(64, 128))})
    with pytest.raises(OutputError, match="exists"):
        export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf")
    export(tmp_path / "m.bale", "gguf", tmp_path / "out.gguf", force=True)
