"""A pickle machine that makes inert records instead of calling, importing or setting anything."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
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
    """The bytes are no pickle that can be followed."""


class PickleTooLarge(PickleError):
    """It may be a sound pickle, and is more than readers are willing to follow."""


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
    items: list[tuple[Any, Any]] = field(default_factory=list)
    elements: list[Any] = field(default_factory=list)
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


@dataclass(frozen=True, eq=False, slots=True)
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
        raise PickleError(
            f"the pickle cannot be followed at byte {machine.offset} ({printable(str(problem))})"
        ) from None
    return Parsed(value, machine.offset, tuple(machine.globals.values()), tuple(machine.persistents))


class _Machine:
    """Stack, marks and memo; `at` is the place of the next byte in `data`, a window that moves along."""

    def __init__(self, read: Read, start: int, end: int, behind: Behind | None = None) -> None:
        self._read, self._start, self._end = read, start, end
        self._behind = behind
        self._base = start  # where `data` begins
        self._passed = 0
        self._allowed = 0
        self._seen = -1  # up to here an opcode needs not ask for what it looks at
        self.data = b""
        self.at = 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistents: list[Persistent] = []

    @property
    def offset(self) -> int:
        """Offset of the next byte."""
        return self._base + self.at

    def run(self) -> Any:
        table, costs, spent = _OPCODES, _COSTS, 0
        while True:
            if self.at > self._seen:
                self.look(_AHEAD)
            code = self.data[self.at]
            self.at += 1
            if code == _STOP:
                return self.stack.pop()
            table[code](self)
            spent += costs[code]
            if spent > self._allowed:
                raise PickleTooLarge(f"what the pickle makes takes more than {self._allowed} bytes of memory")

    def look(self, size: int) -> None:
        """Have so many bytes in the window, or all that are left."""
        if self.at + size <= len(self.data) or self._base + len(self.data) == self._end:
            return
        self._base, self.at = self.offset, 0
        self.data = self._read(min(max(size, _WINDOW), self._end - self._base), self._base)
        self._seen = len(self.data) - _AHEAD
        followed = self._base - self._start - self._passed
        if followed > PICKLE_LIMIT:
            raise PickleTooLarge(f"the pickle has more than {PICKLE_LIMIT} bytes")
        self._allowed = min(_FLOOR + _RATIO * (followed + len(self.data)), _CEILING)

    def take(self, size: int) -> bytes | Long:
        """So many bytes, or a record of their number."""
        if not 0 <= size <= len(self.data) - self.at:
            if not 0 <= size <= self._end - self.offset:
                raise PickleError(f"{size} bytes are announced where {self._end - self.offset} are left")
            self.look(min(size, LONG))
        start = self.at
        self.at += size
        if size <= LONG:
            return self.data[start : self.at]
        self._passed += size
        return Long(size, self.offset - size)

    def pass_over(self, node: Object) -> None:
        """Leave out what lies behind an object and is no part of the pickle."""
        if self._behind is not None:
            size = self._behind(node, self._read, self.offset, self._end)
            if not 0 <= size <= self._end - self.offset:
                raise PickleError(f"{size} bytes are announced where {self._end - self.offset} are left")
            self.at += size
            self._passed += size

    def unpack(self, layout: struct.Struct) -> Any:
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return value

    def line(self) -> bytes:
        while (end := self.data.find(b"\n", self.at)) < 0:
            held = len(self.data) - self.at
            if held > LINE_LIMIT:
                raise PickleTooLarge(f"the pickle has a line of more than {LINE_LIMIT} bytes")
            self.look(2 * held + _AHEAD)
            if len(self.data) - self.at == held:
                raise PickleError("a line does not end")
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

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


_Opcode = Callable[[_Machine], None]
_STOP = ord(".")
_U1, _U2, _U4, _U8, _I4, _F8 = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<Q", "<i", ">d"))


def _constant(value: Any) -> _Opcode:
    return lambda machine: machine.stack.append(value)


def _fixed(layout: struct.Struct) -> _Opcode:
    size, unpack = layout.size, layout.unpack_from

    def run(machine: _Machine) -> None:
        machine.stack += unpack(machine.data, machine.at)
        machine.at += size

    return run


def _counted(layout: struct.Struct, convert: Callable[[bytes], Any]) -> _Opcode:
    def run(machine: _Machine) -> None:
        taken = machine.take(machine.unpack(layout))
        machine.stack.append(Long(taken.nbytes) if isinstance(taken, Long) else convert(taken))

    return run


def _raw(layout: struct.Struct, convert: Callable[[Bytes], Any] = lambda data: data) -> _Opcode:
    def run(machine: _Machine) -> None:
        taken = machine.take(machine.unpack(layout))
        if isinstance(taken, bytes):
            taken = convert(_bytes(taken, machine.offset - len(taken)))
        machine.stack.append(taken)

    return run


def _lined(convert: Callable[[bytes], Any]) -> _Opcode:
    return lambda machine: machine.stack.append(convert(machine.line()))


def _tuple(size: int) -> _Opcode:
    def run(machine: _Machine) -> None:
        if len(machine.stack) < size:
            raise PickleError("the stack is empty")
        machine.stack[-size:] = [tuple(machine.stack[-size:])]

    return run


def _marked(make: Callable[[list[Any]], Any]) -> _Opcode:
    def run(machine: _Machine) -> None:
        made = make(machine.pop_marked())  # leaves another stack in place
        machine.stack.append(made)

    return run


def _put(index: Callable[[_Machine], int]) -> _Opcode:
    def run(machine: _Machine) -> None:
        machine.memo[index(machine)] = machine.stack[-1]

    return run


def _get(index: Callable[[_Machine], int]) -> _Opcode:
    return lambda machine: machine.stack.append(machine.memo[index(machine)])


def _extension(layout: struct.Struct) -> _Opcode:
    return lambda machine: machine.push_global("copyreg", f"extension_{machine.unpack(layout)}")


def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_marked()


def _mark(machine: _Machine) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _call(machine: _Machine) -> None:
    args = machine.stack.pop()
    machine.stack.append(Object(machine.stack.pop(), args))


def _call_with_keywords(machine: _Machine) -> None:
    keywords, args = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(Object(machine.stack.pop(), (args, keywords)))


def _call_marked(machine: _Machine) -> None:
    cls, *args = machine.pop_marked()
    machine.stack.append(Object(cls, tuple(args)))


def _call_named(machine: _Machine) -> None:
    args = tuple(machine.pop_marked())
    _named_global(machine)
    machine.stack.append(Object(machine.stack.pop(), args))


def _named_global(machine: _Machine) -> None:
    module = machine.line().decode()
    machine.push_global(module, machine.line().decode())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise PickleError("a global whose name is no text")
    machine.push_global(module, name)


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    if isinstance(machine.stack[-1], Object):
        machine.stack[-1].state = state
        machine.pass_over(machine.stack[-1])


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    _extend(machine.stack[-1], [value])


def _append_marked(machine: _Machine) -> None:
    values = machine.pop_marked()
    _extend(machine.stack[-1], values)


def _extend(target: Any, values: list[Any]) -> None:
    (target if type(target) is list else target.elements).extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1].items.append((key, value))


def _set_marked(machine: _Machine) -> None:
    pairs = _pairs(machine.pop_marked())
    machine.stack[-1].items.extend(pairs)


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


def _protocol(machine: _Machine) -> None:
    if (number := machine.unpack(_U1)) > PROTOCOL:
        raise PickleError(f"protocol {number}")


def _line_number(machine: _Machine) -> int:
    return _decimal(machine.line())


def _byte(machine: _Machine) -> int:
    machine.at += 1
    return machine.data[machine.at - 1]


def _word(machine: _Machine) -> Any:
    return machine.unpack(_U4)


_OPCODES: dict[int, _Opcode] = {
    0x80: _protocol,
    0x95: lambda machine: machine.unpack(_U8),  # FRAME: only says how far to read ahead
    # values
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord(")"): _constant(()),
    ord("I"): _lined(_integer),
    ord("L"): _lined(_decimal),
    ord("F"): _lined(float),
    ord("K"): _fixed(_U1),
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
    0x98: lambda machine: None,  # READONLY_BUFFER: all that we make is
    # containers
    ord("]"): lambda machine: machine.stack.append([]),
    ord("}"): lambda machine: machine.stack.append(Object(DICT)),
    0x8F: lambda machine: machine.stack.append(Object(SET)),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
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
    ord("1"): lambda machine: machine.pop_marked().clear(),
    ord("2"): lambda machine: machine.stack.append(machine.stack[-1]),
    ord("g"): _get(_line_number),
    ord("h"): _get(_byte),
    ord("j"): _get(_word),
    ord("p"): _put(_line_number),
    ord("q"): _put(_byte),
    ord("r"): _put(_word),
    0x94: _put(lambda machine: len(machine.memo)),
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
    ord("P"): lambda machine: machine.push_persistent(_utf8(machine.line())),
    ord("Q"): lambda machine: machine.push_persistent(machine.stack.pop()),
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
