"""A pickle machine that makes inert records instead of calling, importing or setting anything."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bale.io.faults import printable

PROTOCOL = 5
PICKLE_LIMIT = 1 << 28  # bytes of a pickle that are followed, those of long literals not counted
LINE_LIMIT = 1 << 20  # bytes of a line, as protocol 0 has them
LONG = 1 << 14  # bytes of a text, or of bytes, from which on only their number is kept
_WINDOW, _AHEAD = 1 << 18, 16  # bytes that are read at once, and that any opcode may look at without asking
_FLOOR, _RATIO, _CEILING = 1 << 26, 48, 1 << 30
"""Bytes of memory that a pickle may take, and times its length: those of torch take 20 to 48 times, as counted here."""
NUMBER_LIMIT = 1024  # bytes or digits of an integer: conversions of longer ones take quadratic time


Read = Callable[[int, int], bytes]
"""Gives so many bytes from an offset on."""


class PickleError(ValueError):
    """The bytes are no pickle that can be followed.

    Attributes
    ----------
    globals : tuple of Global
        What it refers to, as far as it was followed.
    """

    globals: tuple[Global, ...] = ()


class PickleTooLarge(PickleError):
    """It may be a sound pickle, and is more than readers are willing to follow."""


class PickleCut(PickleError):
    """All opcodes can be followed to the end of the bytes, and there it goes on."""


class FrameCut(PickleCut):
    """A frame ends behind the bytes."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that the pickle refers to by name."""

    module: str
    name: str
    dotted: str = field(init=False, repr=False, compare=False)  # asked for so often that it is kept

    def __post_init__(self) -> None:
        object.__setattr__(self, "dotted", f"{self.module}.{self.name}")

    def __str__(self) -> str:
        return self.dotted


@dataclass(eq=False, slots=True)
class Object:
    """The record of a call that was not made: the callee, its arguments, and the items put into the result.

    Dicts and sets are objects as well: keys are never hashed, since a hash of untrusted nested tuples can take forever.
    """

    cls: Any
    args: Any = ()
    state: Any = None
    items: Sequence[tuple[Any, Any]] = ()
    elements: Sequence[Any] = ()
    _asked: dict[str, tuple[int, Any]] | None = field(default=None, init=False, repr=False)

    @property
    def callee(self) -> str:
        """Dotted name of the class or function; empty for anything else, which is never spelled out."""
        return self.cls.dotted if isinstance(self.cls, Global) else ""

    def get(self, key: str) -> Any:
        """The value last set for a key, or None; no item is looked at twice, as many may refer to one object."""
        if self._asked is None:
            self._asked = {}
        known, value = self._asked.get(key, (0, None))
        if known < len(self.items):
            new = islice(reversed(self.items), len(self.items) - known)
            value = next((item for name, item in new if isinstance(name, str) and name == key), value)
            self._asked[key] = len(self.items), value
        return value

    def set_items(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Put in pairs; most objects never have any, and no list for them."""
        if not isinstance(self.items, list):
            self.items = list(self.items)
        self.items.extend(pairs)

    def extend(self, values: Iterable[Any]) -> None:
        """Put in elements."""
        if not isinstance(self.elements, list):
            self.elements = list(self.elements)
        self.elements.extend(values)


@dataclass(eq=False, slots=True)
class Persistent:
    """An object that the pickle leaves to its reader, such as a storage."""

    pid: Any


@dataclass(frozen=True, eq=False, slots=True)
class Long:
    """A text, or bytes, that was passed over; `at` is where bytes begin, such as the values of an array."""

    nbytes: int
    at: int | None = None


class Bytes(bytes):
    """Bytes that are held, and where they begin."""

    at: int


def _bytes(data: bytes, at: int) -> Bytes:
    made = Bytes(data)
    made.at = at
    return made


class OldBytes(str):
    """What Python 2 wrote as a string, and is hardly a text; `raw` is what it may be."""

    raw: Bytes


@dataclass(frozen=True)
class Parsed:
    """One pickle: its value, the offset behind it, and all that it refers to in order of appearance."""

    value: Any
    end: int
    globals: tuple[Global, ...]
    persistents: tuple[Persistent, ...]


Behind = Callable[[Object, Read, int, int], int]
"""The bytes behind an object that has just been set up that are no opcodes: by the object, and where they would be."""

DICT = Global("builtins", "dict")
SET = Global("builtins", "set")
FROZENSET = Global("builtins", "frozenset")


def parse_pickle(data: bytes, start: int = 0) -> Parsed:
    """Read the pickle that begins at `start`, in any protocol; raise `PickleError` when it is malformed."""
    return read_pickle(lambda size, offset: data[offset : offset + size], start, len(data))


def read_pickle(read: Read, start: int, end: int, behind: Behind | None = None) -> Parsed:
    """The same of bytes that are read piece by piece, so that what is long is never held; `end` is where they end."""
    machine = _Machine(read, start, end, behind)
    try:
        value = machine.run()
    except PickleTooLarge:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, struct.error) as problem:
        found = machine.error_for(problem)(
            f"the pickle cannot be followed at byte {machine.offset} ({printable(str(problem))})"
        )
        found.globals = tuple(machine.globals.values())
        raise found from None
    return Parsed(value, machine.offset, tuple(machine.globals.values()), tuple(machine.persistents))


class _Machine:
    """Stack, marks and memo, and a window of the bytes that moves along.

    Places are within the window, whose bytes are `data`. What moves it gives the place in the new one.
    """

    def __init__(self, read: Read, start: int, end: int, behind: Behind | None = None) -> None:
        self._read, self._start, self._end = read, start, end
        self._behind = behind
        self._passed = 0
        self._allowed = 0
        self._seen = -1  # up to here an opcode needs not ask for what it looks at
        self.base = start  # where `data` begins
        self.data = b""
        self.offset = start  # when it stops, behind the last opcode that was read
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistents: list[Persistent] = []

    def error_for(self, problem: Exception) -> type[PickleError]:
        """The kind of a problem: numbers that are not there whole lie at the end, as windows are longer."""
        if isinstance(problem, PickleCut):
            return type(problem)
        is_behind = self.offset > self.base + len(self.data)
        return PickleCut if isinstance(problem, struct.error) or is_behind else PickleError

    def run(self) -> Any:
        table, costs, spent = _OPCODES, _COSTS, 0
        at, base, data, seen, allowed = 0, self.base, self.data, self._seen, 0
        try:
            while True:
                if at > seen:
                    at = self.look(at, _AHEAD)
                if data is not self.data:
                    base, data, seen, allowed = self.base, self.data, self._seen, self._allowed
                code = data[at]
                at += 1
                if code == _STOP:
                    return self.stack.pop()
                at = table[code](self, at)
                spent += costs[code]
                if spent > allowed:
                    raise PickleTooLarge(f"what the pickle makes takes more than {allowed} bytes of memory")
        finally:
            self.offset = base + at

    def look(self, at: int, size: int) -> int:
        """Have so many bytes in the window, or all that are left."""
        if at + size <= len(self.data):
            return at
        if self.base + at >= self._end:
            raise PickleCut("it ends before its last opcode")
        if self.base + len(self.data) == self._end:
            return at
        self.base += at
        self.data = self._read(min(max(size, _WINDOW), self._end - self.base), self.base)
        self._seen = len(self.data) - _AHEAD
        followed = self.base - self._start - self._passed
        if followed > PICKLE_LIMIT:
            raise PickleTooLarge(f"the pickle has more than {PICKLE_LIMIT} bytes")
        self._allowed = min(_FLOOR + _RATIO * (followed + len(self.data)), _CEILING)
        return 0

    def take(self, at: int, size: int) -> tuple[bytes | Long, int]:
        """So many bytes, or a record of their number; and the place behind them."""
        if not at <= at + size <= len(self.data):
            self._check(at, size)
            at = self.look(at, min(size, LONG))
        end = at + size
        if size <= LONG:
            return self.data[at:end], end
        self._passed += size
        return Long(size, self.base + at), end

    def pass_over(self, node: Object, at: int) -> int:
        """Leave out what lies behind an object and is no part of the pickle."""
        if self._behind is None:
            return at
        size = self._behind(node, self._read, self.base + at, self._end)
        self._check(at, size)
        self._passed += size
        return at + size

    def frame(self, at: int) -> int:
        """Check the length of a frame, which else only says how far to read ahead."""
        (size,) = _U8.unpack_from(self.data, at)
        self._check(at + _U8.size, size, FrameCut)
        return at + _U8.size

    def _check(self, at: int, size: int, error: type[PickleCut] = PickleCut) -> None:
        left = self._end - self.base - at
        if not 0 <= size <= left:
            text = f"{size} bytes are announced where {left} are left"
            raise PickleError(text) if size < 0 else error(text)

    def line(self, at: int) -> tuple[bytes, int]:
        """The bytes before the next line break, and the place behind it."""
        while (end := self.data.find(b"\n", at)) < 0:
            held = len(self.data) - at
            if held > LINE_LIMIT:
                raise PickleTooLarge(f"the pickle has a line of more than {LINE_LIMIT} bytes")
            at = self.look(at, 2 * held + _AHEAD)
            if len(self.data) - at == held:
                raise PickleCut("a line does not end")
        return self.data[at:end], end + 1

    def pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def push_global(self, module: str, name: str) -> None:
        key = (module, name)
        if key not in self.globals:
            self.globals[key] = Global(*key)
        self.stack.append(self.globals[key])

    def push_persistent(self, pid: Any) -> None:
        self.persistents.append(Persistent(pid))
        self.stack.append(self.persistents[-1])


_Opcode = Callable[[_Machine, int], int]
"""Runs with the place behind its code; gives the place behind all that belongs to it."""
_STOP = ord(".")
_U1, _U2, _U4, _U8, _I4, _F8 = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<Q", "<i", ">d"))


def _push(make: Callable[[], Any]) -> _Opcode:
    def run(machine: _Machine, at: int) -> int:
        machine.stack.append(make())
        return at

    return run


def _constant(value: Any) -> _Opcode:
    return _push(lambda: value)


def _fixed(layout: struct.Struct) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine, at: int) -> int:
        machine.stack += unpack(machine.data, at)
        return at + size

    return run


def _small(machine: _Machine, at: int) -> int:
    machine.stack.append(machine.data[at])
    return at + 1


def _skipped(size: int) -> _Opcode:
    return lambda machine, at: at + size


def _counted(layout: struct.Struct, convert: Callable[[bytes], Any]) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine, at: int) -> int:
        (length,) = unpack(machine.data, at)
        start = at + size
        end: int = start + length
        if 0 <= length <= LONG and end <= len(machine.data):  # nearly always
            machine.stack.append(convert(machine.data[start:end]))
            return end
        taken, at = machine.take(start, length)
        machine.stack.append(Long(taken.nbytes) if isinstance(taken, Long) else convert(taken))
        return at

    return run


def _raw(layout: struct.Struct, convert: Callable[[Bytes], Any] = lambda data: data) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine, at: int) -> int:
        taken, at = machine.take(at + size, unpack(machine.data, at)[0])
        if isinstance(taken, bytes):
            taken = convert(_bytes(taken, machine.base + at - len(taken)))
        machine.stack.append(taken)
        return at

    return run


def _lined(convert: Callable[[bytes], Any]) -> _Opcode:
    def run(machine: _Machine, at: int) -> int:
        line, at = machine.line(at)
        machine.stack.append(convert(line))
        return at

    return run


def _single(machine: _Machine, at: int) -> int:
    machine.stack[-1] = (machine.stack[-1],)
    return at


def _pair(machine: _Machine, at: int) -> int:
    last = machine.stack.pop()
    machine.stack[-1] = (machine.stack[-1], last)
    return at


def _triple(machine: _Machine, at: int) -> int:
    last, middle = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1] = (machine.stack[-1], middle, last)
    return at


def _marked(make: Callable[[list[Any]], Any]) -> _Opcode:
    def run(machine: _Machine, at: int) -> int:
        items, machine.stack = machine.stack, machine.marked.pop()
        machine.stack.append(make(items))
        return at

    return run


def _put(layout: struct.Struct) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine, at: int) -> int:
        machine.memo[unpack(machine.data, at)[0]] = machine.stack[-1]
        return at + size

    return run


def _get(layout: struct.Struct) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine, at: int) -> int:
        machine.stack.append(machine.memo[unpack(machine.data, at)[0]])
        return at + size

    return run


def _put_next(machine: _Machine, at: int) -> int:
    machine.memo[len(machine.memo)] = machine.stack[-1]
    return at


def _put_line(machine: _Machine, at: int) -> int:
    line, at = machine.line(at)
    machine.memo[_decimal(line)] = machine.stack[-1]
    return at


def _get_line(machine: _Machine, at: int) -> int:
    line, at = machine.line(at)
    machine.stack.append(machine.memo[_decimal(line)])
    return at


def _extension(layout: struct.Struct) -> _Opcode:
    def run(machine: _Machine, at: int) -> int:
        machine.push_global("copyreg", f"extension_{layout.unpack_from(machine.data, at)[0]}")
        return at + layout.size

    return run


def _pop(machine: _Machine, at: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_marked()
    return at


def _pop_mark(machine: _Machine, at: int) -> int:
    machine.pop_marked().clear()
    return at


def _twice(machine: _Machine, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at


def _mark(machine: _Machine, at: int) -> int:
    machine.marked.append(machine.stack)
    machine.stack = []
    return at


def _call(machine: _Machine, at: int) -> int:
    args = machine.stack.pop()
    machine.stack.append(Object(machine.stack.pop(), args))
    return at


def _call_with_keywords(machine: _Machine, at: int) -> int:
    keywords, args = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(Object(machine.stack.pop(), (args, keywords)))
    return at


def _call_marked(machine: _Machine, at: int) -> int:
    cls, *args = machine.pop_marked()
    machine.stack.append(Object(cls, tuple(args)))
    return at


def _call_named(machine: _Machine, at: int) -> int:
    args = tuple(machine.pop_marked())
    at = _named_global(machine, at)
    machine.stack.append(Object(machine.stack.pop(), args))
    return at


def _named_global(machine: _Machine, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    machine.push_global(module.decode(), name.decode())
    return at


def _stack_global(machine: _Machine, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise PickleError("a global whose name is no text")
    machine.push_global(module, name)
    return at


def _persistent_line(machine: _Machine, at: int) -> int:
    line, at = machine.line(at)
    machine.push_persistent(_utf8(line))
    return at


def _persistent(machine: _Machine, at: int) -> int:
    machine.push_persistent(machine.stack.pop())
    return at


def _build(machine: _Machine, at: int) -> int:
    state, node = machine.stack.pop(), machine.stack[-1]
    if isinstance(node, Object):
        node.state = state
        return machine.pass_over(node, at)
    return at


def _append(machine: _Machine, at: int) -> int:
    value = machine.stack.pop()
    machine.stack[-1].extend([value])
    return at


def _append_marked(machine: _Machine, at: int) -> int:
    values = machine.pop_marked()
    machine.stack[-1].extend(values)
    return at


def _set_item(machine: _Machine, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1].set_items([(key, value)])
    return at


def _set_marked(machine: _Machine, at: int) -> int:
    pairs = _pairs(machine.pop_marked())
    machine.stack[-1].set_items(pairs)
    return at


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _integer(text: bytes) -> Any:
    if text in (b"00", b"01"):  # how protocol 0 writes the booleans
        return text == b"01"
    return _decimal(text)


def _decimal(text: bytes) -> int:
    if len(text) > NUMBER_LIMIT:
        raise PickleError(f"an integer of {len(text)} digits")
    return int(text.removesuffix(b"L"))


def _little_endian(data: bytes) -> int:
    if len(data) > NUMBER_LIMIT:
        raise PickleError(f"an integer of {len(data)} bytes")
    return int.from_bytes(data, "little", signed=True)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _old_string(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")  # Python 2 did not say in which encoding


def _old_bytes(data: Bytes) -> str:
    text = _old_string(data)
    if data.isascii() and text.isprintable():
        return text
    made = OldBytes(text)
    made.raw = data
    return made


def _quoted(text: bytes) -> str:
    text = text.strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
        raise PickleError("a string without its quotes")
    return _old_string(codecs.escape_decode(text[1:-1])[0])


def _protocol(machine: _Machine, at: int) -> int:
    if (number := machine.data[at]) > PROTOCOL:
        raise PickleError(f"protocol {number}")
    return at + 1


_OPCODES: dict[int, _Opcode] = {
    0x80: _protocol,
    0x95: _Machine.frame,
    # values
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord(")"): _constant(()),
    ord("I"): _lined(_integer),
    ord("L"): _lined(_decimal),
    ord("F"): _lined(float),
    ord("K"): _small,
    ord("M"): _fixed(_U2),
    ord("J"): _fixed(_I4),
    ord("G"): _fixed(_F8),
    0x8A: _counted(_U1, _little_endian),
    0x8B: _counted(_I4, _little_endian),
    ord("S"): _lined(_quoted),
    ord("T"): _raw(_I4, _old_bytes),
    ord("U"): _raw(_U1, _old_bytes),
    ord("V"): _lined(lambda text: text.decode("raw-unicode-escape")),
    ord("X"): _counted(_U4, _utf8),
    0x8C: _counted(_U1, _utf8),
    0x8D: _counted(_U8, _utf8),
    ord("B"): _raw(_U4),
    ord("C"): _raw(_U1),
    0x8E: _raw(_U8),
    0x96: _raw(_U8),
    0x98: _skipped(0),  # READONLY_BUFFER: all that we make is
    # containers
    ord("]"): _push(list),
    ord("}"): _push(lambda: Object(DICT)),
    0x8F: _push(lambda: Object(SET)),
    0x85: _single,
    0x86: _pair,
    0x87: _triple,
    ord("t"): _marked(tuple),
    ord("l"): _marked(list),
    ord("d"): _marked(lambda values: Object(DICT, items=_pairs(values))),
    0x91: _marked(lambda values: Object(FROZENSET, elements=values)),
    ord("a"): _append,
    ord("e"): _append_marked,
    0x90: _append_marked,
    ord("s"): _set_item,
    ord("u"): _set_marked,
    # the stack and the memo
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): _twice,
    ord("g"): _get_line,
    ord("h"): _get(_U1),
    ord("j"): _get(_U4),
    ord("p"): _put_line,
    ord("q"): _put(_U1),
    ord("r"): _put(_U4),
    0x94: _put_next,
    # what others would import, call or fetch
    ord("c"): _named_global,
    0x93: _stack_global,
    0x82: _extension(_U1),
    0x83: _extension(_U2),
    0x84: _extension(_I4),
    ord("R"): _call,
    0x81: _call,
    0x92: _call_with_keywords,
    ord("o"): _call_marked,
    ord("i"): _call_named,
    ord("b"): _build,
    ord("P"): _persistent_line,
    ord("Q"): _persistent,
}

_COSTS = [16] * 256
"""Bytes in memory that come of an opcode, about: an object, a list, a tuple, a place in the memo, or anything else."""
for _codes, _cost in (
    (b"}\x8f\x91dR\x81\x92oi", 200),
    (b"](", 80),
    (b"\x85\x86\x87tlPQ", 80),
    (b"pqr\x94", 100),
    (b"BC\x8e\x96", 300),
):
    for _code in _codes:
        _COSTS[_code] = _cost
