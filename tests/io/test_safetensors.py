"""The header that bale writes is one that safetensors reads, and its room is bounded beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from bale.io.safetensors import PREAMBLE, entry_bound, header_block, header_text, padded
from bale.spec import DTYPES, TensorSpec


def test_text_by_hand() -> None:
    entries = [("a", TensorSpec("F32", (2, 3))), ('"\n', TensorSpec("BF16", ())), ("ü", TensorSpec("U8", (0,)))]
    assert header_text({"k": "v"}, entries).decode() == (
        '{"__metadata__":{"k":"v"},'
        '"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        '"\\"\\n":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},'
        '"ü":{"dtype":"U8","shape":[0],"data_offsets":[26,26]}}'
    )
    assert header_text({}, []) == b"{}"


def test_block() -> None:
    assert header_block(b"{}", 8) == b"\x08" + bytes(7) + b"{}      "
    assert [padded(size) for size in (0, 1, 8, 9)] == [0, 8, 8, 16]


def test_safetensors_reads_it(tmp_path: Path) -> None:
    text = header_text({"k": "v"}, [("a\n", TensorSpec("F32", (2,))), ("b", TensorSpec("U8", (3,)))])
    (tmp_path / "m").write_bytes(header_block(text, padded(len(text)) + 16) + bytes(11))
    with safe_open(tmp_path / "m", framework="np") as file:
        assert list(file.offset_keys()) == ["a\n", "b"]
        assert file.metadata() == {"k": "v"}


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=[]), max_size=20),  # with lone surrogates, as pickles may have
            st.sampled_from([name for name, dtype in DTYPES.items() if dtype.portable]),
            st.lists(st.integers(0, 10**6), max_size=5),
        ),
        max_size=5,
    )
)
def test_an_entry_is_never_longer_than_its_bound(entries: list[tuple[str, str, list[int]]]) -> None:
    specs = [(name, TensorSpec(dtype, tuple(shape))) for name, dtype, shape in entries]
    total = sum(spec.nbytes for _, spec in specs)
    text = header_text({}, specs)
    bound = sum(entry_bound(name, (spec, TensorSpec("U8", (1,))), total) for name, spec in specs)
    assert len(text) <= len("{}") + bound


def test_coded_parts_fit_where_plain_ones_were_expected() -> None:
    """A part that is stored coded has U8 and its length for a shape."""
    bound = entry_bound("a:data", (TensorSpec("F32", (3,)),), 10**12)
    assert bound >= len(header_text({}, [("a:data", TensorSpec("U8", (10**12,)))])) - len("{}")


def test_the_preamble_is_a_u64() -> None:
    assert PREAMBLE == 8


@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.portable])
def test_every_dtype_is_spelled_as_safetensors_does(tmp_path: Path, dtype: str) -> None:
    spec = TensorSpec(dtype, (8,))
    text = header_text({}, [("a", spec)])
    (tmp_path / "m").write_bytes(header_block(text, len(text)) + bytes(spec.nbytes))
    with safe_open(tmp_path / "m", framework="np") as file:
        assert file.get_slice("a").get_dtype() == dtype
