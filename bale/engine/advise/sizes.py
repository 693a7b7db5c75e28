"""What choices would make of a source, from the looks at its tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from bale.compressors.rate_controlled import RateControlled
from bale.engine.advise.look import Look, step_of_error
from bale.planning.allocate import Item, offsets, solve_size
from bale.report.advice import Choice


@dataclass(frozen=True)
class Speed:
    """Seconds of one thread for each value that is coded with loss, both ways."""

    encode: float
    decode: float


@dataclass(frozen=True)
class Spent:
    """A tensor with the step (its logarithm) that was chosen for it."""

    look: Look
    item: Item
    step: float

    @property
    def size(self) -> float:
        """Bytes."""
        return self.item.size(self.step)

    @property
    def error2(self) -> float:
        """Squared error of all values."""
        return self.item.error2(self.step)

    def target(self, codec: RateControlled) -> RateControlled:
        """A codec with its step: what is spent on the search for it does not grow with the tensor."""
        return codec.with_step(2.0**self.step)

    @property
    def pays(self) -> bool:
        """Whether it takes less than without loss."""
        return self.size < self.item.lossless


@dataclass(frozen=True)
class Sizes:
    """All looks, and what counts beside them.

    Attributes
    ----------
    looks : sequence of Look
        Of all units that repeat no other.
    beside, beside_lossy : int
        Bytes of an archive, or of a folder, that hold no tensor's values, and more for each lossy tensor.
    speed : Speed or None
        Of coding with loss; None where that is not known.
    """

    looks: Sequence[Look]
    beside: int
    beside_lossy: int
    threads: int
    speed: Speed | None = None

    def lossless(self, options: str, most: bool) -> Choice:
        """Without loss, with the largest effort or not."""
        coded = [look.most if most and look.unit.views else look.fast for look in self.looks]
        return self._choice(
            options,
            sum(each.size for each in coded),
            0.0,
            0,
            sum(each.encode for each in coded),
            sum(each.decode for each in coded),
        )

    def spent(self, bits: float) -> list[Spent]:
        """The steps with which a budget of bits a weight is met: none where there is nothing to spend it on."""
        lossy = [look for look in self.looks if look.item is not None]
        while lossy:
            items = _items(lossy)
            factors = offsets(items, "quality")
            common = solve_size(items, factors, bits / 8 * sum(item.elements for item in items))
            if common is None:
                return []
            spent = [
                Spent(look, item, common + float(factor))
                for look, item, factor in zip(lossy, items, factors, strict=True)
            ]
            lossy = [each.look for each in spent if each.pays]
            if len(lossy) == len(spent):
                return spent
        return []

    def of_bits(self, options: str, bits: float) -> Choice | None:
        """With a budget of bits a weight; None where there is nothing to spend it on, or it cannot be met."""
        spent = self.spent(bits)
        return self._lossy(options, spent) if spent else None

    def of_error(self, options: str, error: float, wanted: Callable[[Look], bool]) -> Choice | None:
        """With a relative error of each tensor that is wanted."""
        pairs = ((look, look.item) for look in self.looks if wanted(look))
        spent = [Spent(look, item, step_of_error(item, error)) for look, item in pairs if item is not None]
        spent = [each for each in spent if each.pays]
        return self._lossy(options, spent) if spent else None

    def _lossy(self, options: str, spent: Sequence[Spent]) -> Choice:
        chosen = {id(each.look) for each in spent}
        rest = [look.fast for look in self.looks if id(look) not in chosen]
        size = sum(each.size for each in spent) + sum(each.size for each in rest)
        norm2 = sum(each.item.norm2 for each in spent)
        error = sqrt(sum(each.error2 for each in spent) / norm2) if norm2 else 0.0
        encode = decode = None
        if self.speed is not None:
            elements = sum(each.item.elements for each in spent)
            encode = elements * self.speed.encode + sum(each.look.planning for each in spent)
            encode += sum(each.encode for each in rest)
            decode = elements * self.speed.decode + sum(each.decode for each in rest)
        found = self._choice(options, size, error, self.beside_lossy * len(spent), encode, decode)
        return replace(found, worst=max(sqrt(each.error2 / each.item.norm2) for each in spent))

    def _choice(
        self, options: str, size: float, error: float, more: int, encode: float | None, decode: float | None
    ) -> Choice:
        """A choice with its times: what is written is read back and decoded, and all that is read is hashed."""
        stored, workers = round(size) + self.beside + more, self.threads
        if encode is None or decode is None:
            return Choice(options, stored, error)
        read, hashing = (sum(getattr(look, name) for look in self.looks) for name in ("reading", "hashing"))
        moved = read + read * size / max(1, sum(look.unit.spec.nbytes for look in self.looks))
        compress = encode + decode + 2 * hashing + moved
        return Choice(options, stored, error, compress / workers, (decode + hashing + moved) / workers)


def _items(looks: Sequence[Look]) -> list[Item]:
    return [look.item for look in looks if look.item is not None]
