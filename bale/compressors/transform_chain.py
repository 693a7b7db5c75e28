"""A chain of transforms: each primary part of one goes on to the next, the others are leaves.

Leaves have the names of all parts on their way joined by dots: ``u.qdata``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bale.compressors.base import PartBound, Transform, Values
from bale.spec import TensorSpec

PLAIN = "data"
"""Name of the one part of a tensor that no transform takes apart."""


def leaves(chain: Sequence[Transform], bound: PartBound) -> tuple[PartBound, ...]:
    """Upper bounds of the leaves of a part."""
    if not chain:
        return (bound if bound.name else replace(bound, name=PLAIN),)
    first, *rest = chain
    return tuple(
        leaf
        for part in first.parts(bound.spec)
        for leaf in leaves(
            rest if part.primary else (),
            replace(part, name=join(bound.name, part.name), optional=part.optional or bound.optional),
        )
    )


def validate(chain: Sequence[Transform], spec: TensorSpec) -> None:
    """Raise `Refused` when one of the transforms cannot take what reaches it."""
    if not chain:
        return
    first, *rest = chain
    first.validate(spec)
    for part in first.parts(spec):
        if part.primary:
            validate(rest, part.spec)
    bounds = leaves(chain, PartBound("", spec, primary=True))
    first.check_size(spec, sum(leaf.spec.elements * (leaf.bits or leaf.spec.info.bits) for leaf in bounds))


def encode(chain: Sequence[Transform], values: Values, name: str = "") -> dict[str, Values]:
    """The leaves of a part, which has a name unless it is the tensor itself; the mirror image is `decode`."""
    if not chain:
        return {name or PLAIN: values}
    first, *rest = chain
    primary = {part.name for part in first.parts(values.spec) if part.primary}
    found: dict[str, Values] = {}
    for part, array in first.encode(values).items():
        found |= encode(rest if part in primary else (), array, join(name, part))
    return found


def decode(chain: Sequence[Transform], found: Mapping[str, Values], bound: TensorSpec, name: str = "") -> Values:
    """A part from its leaves, where only an upper bound of its spec is known."""
    if not chain:
        if (name or PLAIN) not in found:
            raise ValueError(f"the part {name or PLAIN!r} is missing")
        return found[name or PLAIN]
    first, *rest = chain
    parts = {
        part.name: decode(rest if part.primary else (), found, part.spec, join(name, part.name))
        for part in first.parts(bound)
        if not (part.optional and is_missing(join(name, part.name), found))
    }
    spec = first.spec_of(parts, bound)
    return Values(spec, first.decode(parts, spec))


def below(name: str, found: Mapping[str, Values]) -> dict[str, Values]:
    """The leaves of a part, by their names within it."""
    prefix = f"{name}."
    return {leaf.removeprefix(prefix): values for leaf, values in found.items() if leaf.startswith(prefix)}


def is_missing(name: str, found: Mapping[str, Values]) -> bool:
    """Whether a part has no leaves."""
    return not any(leaf == name or leaf.startswith(f"{name}.") for leaf in found)


def join(name: str, part: str) -> str:
    """Name of a part of a part."""
    return f"{name}.{part}" if name else part
