from __future__ import annotations

import collections
import pickle
import pickletools
import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.io.sources.pickle import reader as pickle_reader
from bale.io.sources.pickle.globals import global_notes
from bale.io.sources.pickle.reader import (
    DICT,
    Global,
    Object,
    Persistent,
    PickleError,
    PickleTooLarge,
    parse_pickle,
    read_pickle,
)
from tests.io.test_bombs import at_most

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def plain(value: Any) -> Any:
    """The Python value that records stand for."""
    if isinstance(value, (list, tuple)):
        return type(value)(plain(each) for each in value)
    if not isinstance(value, Object):
        return value
    match str(value.cls).rpartition(".")[2]:
        case "dict":
            return {plain(key): plain(item) for key, item in value.items}
        case "set" | "frozenset" as name:
            elements = value.elements or (value.args[0] if value.args else [])
            return (set if name == "set" else frozenset)(plain(each) for each in elements)
        case "encode":  # how protocols below 3 write bytes
            return value.args[0].encode(value.args[1])
        case "bytes":
            return b""
        case "OrderedDict":
            return collections.OrderedDict((plain(key), plain(item)) for key, item in value.items)
    raise AssertionError(value)


def complaint(data: bytes) -> str:
    """What is wrong with a pickle; empty when it can be read."""
    try:
        parse_pickle(data)
    except PickleError as problem:
        return str(problem)
    return ""


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=300)
keys = st.integers() | st.text() | st.tuples(st.text(), st.booleans())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(st.text(), max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=20,
)


@given(values, st.sampled_from(PROTOCOLS))
def test_values_come_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    parsed = parse_pickle(data)
    assert plain(parsed.value) == value
    assert parsed.end == len(data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_and_special_values_come_back(protocol: int) -> None:
    value = [2**2000, -(2**2000), -1, 255, 65536, "x" * 16000, float("inf"), b"y" * 16000, list(range(3000)), ()]
    value.append({index: str(index) for index in range(3000)})
    assert plain(parse_pickle(pickle.dumps(value, protocol)).value) == value


@given(values, st.sampled_from(PROTOCOLS), st.integers(1, 40))
def test_windows_of_any_length(value: Any, protocol: int, window: int) -> None:
    data = b"before" + pickle.dumps(value, protocol) + b"behind"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle_reader, "_WINDOW", window)
        parsed = read_pickle(lambda size, at: data[at : at + size], 6, len(data))
    assert plain(parsed.value) == value
    assert parsed.end == len(data) - 6


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_long_literals_are_passed_over(protocol: int) -> None:
    """Nothing of them is read, but what the window has of them."""
    data = pickle.dumps({"text": "x" * 5_000_000, "short": "y", "bytes": b"z" * 5_000_000, "last": 3}, protocol)
    with at_most(1 << 21):
        parsed = parse_pickle(data)
    assert parsed.end == len(data)
    items = dict(parsed.value.items)
    assert items["text"].nbytes == 5_000_000
    assert (items["short"], items["last"]) == ("y", 3)


def test_a_literal_that_ends_too_late() -> None:
    assert "100000 bytes are announced where 50001 are left" in complaint(
        b"B" + struct.pack("<I", 100_000) + bytes(50_001)
    )


def test_lines_longer_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "_WINDOW", 10)
    assert parse_pickle(b"V" + b"x" * 5000 + b"\n.").value == "x" * 5000
    assert "does not end" in complaint(b"V" + b"x" * 5000)


def test_consecutive_pickles_and_shared_references() -> None:
    shared = [1]
    first = pickle.dumps([shared, shared])
    data = first + pickle.dumps("next")
    parsed = parse_pickle(data)
    assert parsed.value[0] is parsed.value[1]
    assert parse_pickle(data, parsed.end).value == "next"


def test_recursive_values() -> None:
    value: list[Any] = []
    value.append(value)
    parsed = parse_pickle(pickle.dumps(value)).value
    assert parsed[0] is parsed


def test_every_opcode_but_out_of_band_buffers_is_known() -> None:
    for opcode in pickletools.opcodes:
        code = opcode.code.encode("latin-1")
        stack = b"(((K\x01K\x02K\x03K\x04"
        unknown = f"({code[0]})" in complaint(stack + code + b"\0" * 8 + b"\n\n")
        assert unknown == (opcode.name == "NEXT_BUFFER"), opcode.name


@pytest.mark.parametrize(
    ("data", "cls", "args"),
    [
        (b"cos\nsystem\n(S'x'\ntR.", Global("os", "system"), ("x",)),
        (b"(S'x'\nios\nsystem\n.", Global("os", "system"), ("x",)),
        (b"(cos\nsystem\nS'x'\no.", Global("os", "system"), ("x",)),
        (b"\x80\x02cos\nsystem\nU\x01x\x85\x81.", Global("os", "system"), ("x",)),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85}\x92.", Global("os", "system"), None),
        (b"\x80\x02\x82\x07)R.", Global("copyreg", "extension_7"), ()),
    ],
)
def test_calls_become_records(data: bytes, cls: Global, args: tuple[Any, ...] | None) -> None:
    parsed = parse_pickle(data)
    assert isinstance(parsed.value, Object)
    assert parsed.value.cls == cls
    assert args is None or parsed.value.args == args
    assert parsed.globals == (cls,)


def test_what_is_put_into_an_object_is_kept() -> None:
    parsed = parse_pickle(b"\x80\x02cm\nC\n)R}U\x01kK\x01sbU\x01aK\x02sK\x03a.").value
    assert parsed.state.get("k") == 1
    assert parsed.get("a") == 2
    assert parsed.elements == [3]
    assert parsed.state.cls is DICT


def test_persistent_ids() -> None:
    parsed = parse_pickle(b"\x80\x02U\x01xQ.")
    assert isinstance(parsed.value, Persistent)
    assert parsed.value.pid == "x"
    assert parsed.persistents == (parsed.value,)
    assert parse_pickle(b"Px\n.").value.pid == "x"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"K",
        b"\x80\x06N.",
        b"\x80\x02",
        b"N",
        b"h\x05.",
        b"q\x05.",
        b"\xff.",
        b"X\xff\xff\xff\x7fabc.",
        b"T\xff\xff\xff\xffabc.",
        b"\x8e" + b"\xff" * 8 + b".",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8b" + struct.pack("<i", 5000) + b"\1" * 5000 + b".",
        b"I" + b"9" * 5000 + b"\n.",
        b"L" + b"9" * 1_000_000 + b"L\n.",
        b"Snot quoted\n.",
        b"S'\\'\n.",
        b"Vx",
        b"X\x01\0\0\0\xff.",
        b"t.",
        b"(K\x01d.",
        b"(K\x01u.",
        b"\x85.",
        b"K\x01K\x02a.",
        b"K\x01K\x02K\x03s.",
        b"K\x01K\x02\x93.",
        b"(o.",
        b"Fx\n.",
        b"Ix\n.",
        b"1.",
        b"\x97.",
    ],
)
def test_malformed_pickles(data: bytes) -> None:
    with pytest.raises(PickleError):
        parse_pickle(data)


@given(st.binary(max_size=200))
def test_random_bytes_never_do_anything_else(data: bytes) -> None:
    assert "\n" not in complaint(data)


@given(values, st.sampled_from(PROTOCOLS), st.data())
def test_damaged_pickles_never_do_anything_else(value: Any, protocol: int, draw: st.DataObject) -> None:
    data = bytearray(pickle.dumps(value, protocol))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    assert "\n" not in complaint(bytes(data))


def test_complaints_are_short() -> None:
    assert len(complaint(b"F" + b"x" * 1_000_000 + b"\n.")) < 300


def test_deep_nesting_takes_no_recursion() -> None:
    deep = parse_pickle(b"]" * 100_000 + b"a" * 99_999 + b".").value
    assert len(deep) == 1
    tuples = b"(" * 100_000 + b"t" * 100_000
    assert len(parse_pickle(b"}" + tuples + b"K\x01s.").value.items) == 1


def test_hostile_sharing_is_never_hashed() -> None:
    doubled = b"\x80\x02)" + b"".join(b"2\x86" for _ in range(200))
    assert parse_pickle(b"\x80\x02}" + doubled[2:] + b"K\x01s.").value.items[0][1] == 1


class TestNotes:
    @pytest.mark.parametrize(
        "name",
        [
            "os.system",
            "posix.system",
            "nt.system",
            "subprocess.Popen",
            "runpy._run_code",
            "builtins.eval",
            "__builtin__.exec",
            "builtins.getattr",
            "sys.exit",
            "socket.socket",
            "shutil.rmtree",
            "importlib.import_module",
            "torch.hub.load",
            "torch.load",
            "torch.utils.cpp_extension.load",
        ],
    )
    def test_dangerous(self, name: str) -> None:
        module, _, attribute = name.rpartition(".")
        (note,) = global_notes([Global(module, attribute)])
        assert note.text == (
            f"the pickle refers to {name}; bale never runs it, but torch.load(weights_only=False) would"
        )

    def test_through_the_attributes_of_a_harmless_module(self) -> None:
        (note,) = global_notes([Global("torch.serialization", "os.system")])
        assert note.kind == "dangerous"

    def test_harmless(self) -> None:
        names = [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch.nn.modules.linear", "Linear"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("builtins", "set"),
        ]
        assert global_notes([Global(*name) for name in names]) == []

    def test_unknown_are_listed_up_to_five(self) -> None:
        (note,) = global_notes([Global("my.package", f"C{index}") for index in range(7)] * 2)
        assert "my.package.C4 and 2 more" in note.text
        assert "C5" not in note.text

    def test_control_characters_and_length(self) -> None:
        notes = global_notes([Global("os", "system\n\x1b[31m" + "x" * 10_000), Global("a\r", "b\0")])
        assert len(notes) == 2
        assert all(note.text.isprintable() and len(note.text) < 300 for note in notes)


@pytest.mark.parametrize("opcode", [b"V", b"S", b"c", b"P", b"L"])
def test_a_line_that_does_not_end_is_not_held(opcode: bytes) -> None:
    asked = []

    def read(size: int, offset: int) -> bytes:
        asked.append(size)
        return opcode.ljust(size, b"1") if offset == 0 else b"1" * size

    with pytest.raises(PickleTooLarge, match="a line of more than 1048576 bytes"):
        read_pickle(read, 0, 1 << 40)
    assert sum(asked) < 8 * pickle_reader.LINE_LIMIT
    text = "x" * pickle_reader.LINE_LIMIT
    assert parse_pickle(b"V" + text.encode() + b"\n.").value == text


def test_the_last_value_of_a_key() -> None:
    node = Object(DICT, items=[("a", 1), (("a",), 2), ("a", 3)])
    assert [node.get("a"), node.get("b")] == [3, None]
    node.items += [("b", 4), ("c", 5)]
    assert [node.get("a"), node.get("b")] == [3, 4]
    node.items.append(("a", None))
    assert node.get("a") is None


def test_items_are_looked_at_once() -> None:
    """Very many may refer to one object."""
    node = Object(DICT, items=[(number, None) for number in range(100_000)])
    began = time.process_time()
    for _ in range(10_000):
        node.get("dtype")
    assert time.process_time() - began < 2
