"""Tensors of more than one chunk: what is coded block by block is what would be coded as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bale
from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.io.archive.archive import open_archive
from bale.spec import CHUNK_LIMIT, TensorSpec
from tests.making import Raw, bf16, weights, write

LONG = CHUNK_LIMIT + 12_345


def both(tmp_path: Path, raw: Raw, choice: str) -> tuple[np.ndarray, np.ndarray]:
    """The tensor as the engine gives it back, and as the pipeline does on the whole array."""
    source = write(tmp_path / "m.safetensors", {"w": raw})
    bale.compress(source, f"{source}.bale", rules=[f"w={choice}"], force=True)
    with bale.open(tmp_path / "m.safetensors.bale") as tensors:
        streamed = np.array(tensors.bits("w"))
    spec = TensorSpec(raw.dtype, raw.shape)
    array = np.frombuffer(raw.data, spec.storage).reshape(spec.storage_shape)
    pipeline = Pipeline.parse(choice)
    return streamed, pipeline.decode(pipeline.encode(Values(spec, array)), spec)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize(
    "choice",
    [
        "int:bits=4,group=64",
        "int:bits=4,group=100",
        "int",
        "int:group=tensor",
        "int:bits=3,group=64,symmetric=true",
        "int:bits=4,group=64,clip=mse",
    ],
)
def test_blocks_are_coded_as_the_whole_is(tmp_path: Path, choice: str, dtype: str) -> None:
    values = weights(LONG // 1000, 1000)
    raw = bf16(values) if dtype == "BF16" else Raw.of(values)
    streamed, whole = both(tmp_path, raw, choice)
    assert streamed.tobytes() == whole.tobytes()


@pytest.mark.parametrize("shape", [(LONG,), (1, LONG), (3, LONG // 3), (LONG // 8, 2, 2, 2)])
def test_rows_of_any_length(tmp_path: Path, shape: tuple[int, ...]) -> None:
    streamed, whole = both(tmp_path, Raw.of(weights(*shape)), "int")
    assert streamed.tobytes() == whole.tobytes()


def test_ranges_that_are_clipped_over_several_blocks(tmp_path: Path) -> None:
    """The error of a run that spans blocks is a sum over them, which may round differently: nearly the same values."""
    streamed, whole = both(tmp_path, Raw.of(weights(LONG)), "int:bits=4,group=tensor,clip=mse")
    assert np.allclose(streamed, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("choice", ["lossless", "int:group=64", "zstd"])
@pytest.mark.parametrize("elements", [CHUNK_LIMIT - 1, CHUNK_LIMIT, CHUNK_LIMIT + 1, 2 * CHUNK_LIMIT])
def test_chunks_have_at_most_a_million_elements(tmp_path: Path, choice: str, elements: int) -> None:
    source = write(tmp_path / "m.safetensors", {"w": bf16(weights(elements))})
    bale.compress(source, f"{source}.bale", rules=[f"w={choice}"])
    with open_archive(tmp_path / "m.safetensors.bale") as archive:
        part = archive.manifest.units[0].parts[0]
    assert len(part.chunks) == -(-elements // CHUNK_LIMIT)
    assert part.chunk <= CHUNK_LIMIT
    bale.decompress(tmp_path / "m.safetensors.bale", tmp_path / "back")
    if choice != "int:group=64":
        assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "BOOL", "C64"])
def test_long_tensors_of_odd_dtypes(tmp_path: Path, dtype: str) -> None:
    spec = TensorSpec(dtype, (CHUNK_LIMIT + 1000,))
    data = np.random.default_rng(0).integers(0, 2, spec.nbytes, dtype=np.uint8).tobytes()
    source = write(tmp_path / "m.safetensors", {"w": Raw(dtype, spec.shape, data)})
    bale.compress(source)
    bale.decompress(tmp_path / "m.safetensors.bale", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_damaged_chunk_is_found_before_others_are_decoded(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": bf16(weights(3 * CHUNK_LIMIT))})
    bale.compress(source)
    path = tmp_path / "m.safetensors.bale"
    with open_archive(path) as archive:
        at = archive.offsets[0][0] + archive.manifest.units[0].parts[0].starts[1]
    data = bytearray(path.read_bytes())
    data[at + 5] ^= 1
    path.write_bytes(data)
    from bale.errors import ArchiveError

    with pytest.raises(ArchiveError, match="chunk 1 of 'w'"):
        bale.decompress(path, tmp_path / "back")
