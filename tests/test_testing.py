"""The contract that authors of codecs derive from: each of its tests fails for a codec that breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from bale import testing
from bale.compressors.base import Codec, Values
from bale.compressors.quantizers.linear import Int
from bale.compressors.quantizers.positive import Positive
from bale.compressors.serializers.bitpack import Bitpack
from bale.compressors.serializers.zstd import Zstd
from bale.errors import Refused


class Ints(testing.QuantizerContract):
    codecs = (Int(),)

    def within_bound(self, codec: Any, x: Any, y: Any, parts: Any, spec: Any) -> bool:
        step = float(parts["scale"].array.astype(np.float64).max())
        return bool((np.abs(x - y) <= step * (0.5 + 2.0**-15) + testing.rounding(y, spec)).all())


class Positives(testing.TransformContract):
    codecs = (Positive(),)

    def suited(self, codec: Any, x: Any) -> Any:
        return np.abs(x)

    def within_bound(self, codec: Any, x: Any, y: Any, parts: Any, spec: Any) -> bool:
        return bool(np.isclose(x, y, rtol=0.1).all())


class Bitpacks(testing.SerializerContract):
    codecs = (Bitpack(),)


class Zstds(testing.CompressorContract):
    codecs = (Zstd(),)


def broken(kind: type[Codec], **changed: Any) -> Any:
    """A codec like this one but for these members."""
    return dataclass(frozen=True)(type(kind.__name__, (kind,), changed))()


def first_changed(decode: Callable[..., Any]) -> Callable[..., Any]:
    """A decoder whose first element is another one."""

    def call(self: Any, *arguments: Any) -> Any:
        found = np.array(decode(self, *arguments))
        if found.size:
            found.reshape(-1).view(np.uint8)[0] ^= 0x40
        return found

    return call


def by_place(self: Any, block: Any, start: int, spec: Any, side: Any) -> Any:
    return Int.encode_block(self, block, start, spec, side) ^ np.uint8(start > 0)


def unchecked(self: Any, codes: Any, start: int, spec: Any, side: Any) -> Any:
    side = {name: Values(each.spec, each.array) for name, each in side.items()}
    return codes.astype(np.float32) * np.float32(side["scale"].array.reshape(-1)[0])


def random(self: Any, values: Values) -> bytes:
    return bytes(Bitpack.encode(self, values)) + np.random.default_rng().bytes(8)


def lenient(self: Any, data: Any, spec: Any, bits: Any = None, out: Any = None) -> Any:
    size = spec.nbytes if bits is None else -(-spec.elements * bits // 8)
    return Bitpack.decode(self, bytes(data)[:size].ljust(size, b"\0"), spec, bits, out)


def told(self: Any, values: Values) -> dict[str, Values]:
    return {name: replace(each, bits=each.bits and 9) for name, each in Int.encode(self, values).items()}


def seen(self: Any, values: Values) -> dict[str, Values]:
    parts = Positive.encode(self, values)
    return {**parts, "value": Values(parts["value"].spec, values.array.reshape(values.spec.shape))}


def finite(self: Any, values: Values) -> dict[str, Values]:
    return Int.encode(self, Values(values.spec, np.nan_to_num(values.array, posinf=1, neginf=1)))


WRONG = broken(Bitpack, decode=first_changed(Bitpack.decode))
BROKEN = {
    "bits that do not come back": (
        Bitpacks(),
        "every_bit",
        broken(Bitpack, decode=first_changed(Bitpack.decode)),
        "F32",
    ),
    "other bytes each time": (
        Bitpacks(),
        "every_bit",
        broken(Bitpack, encode=random, decode=lambda self, data, *rest: Bitpack.decode(self, data[:-8], *rest)),
        "F32",
    ),
    "codes that do not come back": (Bitpacks(), "codes_come", WRONG, 3),
    "damage that is not noticed": (Bitpacks(), "damage", broken(Bitpack, decode=lenient), None),
    "a serializer that keeps memory": (
        Bitpacks(),
        "nothing_is_kept",
        broken(Bitpack, encode=lambda self, values: values.array.reshape(-1).view(np.uint8).data),
        None,
    ),
    "bytes that do not come back": (Zstds(), "every_byte", broken(Zstd, decode=lambda self, data, size: bytes(size))),
    "a compressor that keeps memory": (
        Zstds(),
        "nothing_is_kept",
        broken(Zstd, encode=lambda self, data: data, decode=lambda self, data, size: bytes(data)),
    ),
    "an error beyond the bound": (
        Ints(),
        "it_refuses",
        broken(Int, decode_block=lambda self, *given: Int.decode_block(self, *given) * np.float32(1.1)),
        "F32",
    ),
    "a dtype that is never taken": (
        Ints(),
        "it_refuses",
        broken(Int, validate=lambda self, spec: refuse(spec.dtype == "F16", spec)),
        "F16",
    ),
    "a refusal without words": (Ints(), "it_refuses", broken(Int, validate=lambda self, spec: refuse(True, "")), "F32"),
    "hard tensors that are all refused": (
        Ints(),
        "hard_tensors",
        broken(Int, validate=lambda self, spec: refuse(True, spec)),
    ),
    "NaN that is coded": (
        Ints(),
        "not_finite",
        broken(
            Int, encode=lambda self, v: Int.encode(self, Values(v.spec, np.nan_to_num(v.array, posinf=1, neginf=1)))
        ),
        np.nan,
    ),
    "a transform that keeps memory": (Positives(), "nothing_is_kept", broken(Positive, encode=seen)),
    "codes of more bits than are told": (Ints(), "codes_and_side", broken(Int, encode=told)),
    "blocks that are coded by their place": (Ints(), "blocks_are", broken(Int, encode_block=by_place)),
    "cells of other values": (
        Ints(),
        "cells",
        broken(Int, cells_block=lambda self, codes, *rest: Int.cells_block(self, codes ^ np.uint8(8), *rest)),
    ),
    "forged scales that are used": (
        Ints(),
        "forged",
        broken(Int, decode_block=unchecked),
        np.nan,
    ),
    "a codec that is not in the registry": (Zstds(), "found_by_its_name", broken(Zstd)),
    "settings that are lost": (
        Zstds(),
        "its_configuration",
        broken(Zstd, configuration=lambda self: {"level": 4}),
    ),
}


def refuse(wanted: bool, why: object) -> None:
    if wanted:
        raise Refused(str(why))


def check(contract: testing.CodecContract, words: str) -> Callable[..., None]:
    """The one test of a contract whose name holds these words."""
    (name,) = [each for each in dir(contract) if re.match(rf"test_.*{words}", each)]
    return getattr(contract, name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", BROKEN)
def test_a_codec_that_breaks_it_fails(case: str) -> None:
    contract, words, codec, *arguments = BROKEN[case]
    check(contract, words)(contract.codecs[0], *arguments)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(contract, words)(codec, *arguments)


def test_each_test_is_broken_once() -> None:
    names = {
        (type(contract), name)
        for contract in (Ints(), Bitpacks(), Zstds(), Positives())
        for name in dir(contract)
        if name.startswith("test_")
    }
    tried = {check(contract, words).__name__ for contract, words, *_ in BROKEN.values()}
    assert {name for _, name in names} - tried == {"test_it_says_what_it_does"}


def test_the_summary_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    Zstds().test_it_says_what_it_does(Zstd())
    monkeypatch.setattr(Zstd, "__doc__", "Long" * 40)
    with pytest.raises(AssertionError):
        Zstds().test_it_says_what_it_does(Zstd())


def test_a_lossy_codec_has_to_state_its_error() -> None:
    class Silent(testing.QuantizerContract):
        codecs = (Int(),)

    with pytest.raises(NotImplementedError, match=r"Silent.within_bound has to say what error int may make"):
        Silent().test_it_refuses_a_tensor_or_keeps_the_bound(Int(), "F32")


@pytest.mark.parametrize("contract", [testing.QuantizerContract, testing.SerializerContract])
def test_a_contract_needs_codecs(contract: type[testing.CodecContract]) -> None:
    class Empty(contract):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(pytest.UsageError, match="Empty names no codecs"):
        Empty().pytest_generate_tests(None)
