"""Pipelines: chains of codecs in one layer or two, and what they encode a tensor to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from bale.compressors import grammar, registry, transform_chain
from bale.compressors.base import Codec, Compressor, Conditional, PartBound, Serializer, Transform, Values
from bale.compressors.residual import add, best_rank, code_rest, stored_bits
from bale.errors import Refused, UsageError
from bale.spec import Array, TensorSpec

_REST = "rest"
"""Prefix of the names of the parts of the layer behind a ``/``."""


@dataclass(frozen=True)
class Pipeline:
    """A chain of codecs: transforms, then at most one serializer, then at most one compressor.

    At most one transform is a quantizer, the last. ``lossless`` alone is the pipeline that changes nothing. Two
    pipelines are equal when they do the same.

    A pipeline can have a second layer, `rest`, which codes what the first one leaves over: exactly, ``int4/exact``, or,
    behind a decomposition, by a quantizer, ``svd:rank=16+int8/int:bits=3``. Where the first layer is ``base``, the
    values of another checkpoint, any pipeline can follow.

    Raises
    ------
    UsageError
        When the codecs cannot follow each other like this.
    """

    stages: tuple[Codec, ...]
    rest: Pipeline | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError("a pipeline without codecs", grammar.SYNTAX)
        self._check_layers()
        for before, after in pairwise(self.stages):
            if _rank(before) > _rank(after) or (_rank(before) == _rank(after) and not isinstance(before, Transform)):
                raise UsageError(
                    f"{after.name!r} cannot follow {before.name!r}",
                    "transforms come first, the last of them may quantize, then one serializer, then one compressor",
                )
            if isinstance(before, Transform) and before.last and isinstance(after, Transform):
                raise UsageError(f"{after.name!r} cannot follow {before.name!r}", "a quantizer is the last transform")

            if isinstance(after, Compressor) and isinstance(before, Serializer) and not before.plain:
                raise UsageError(
                    f"{after.name!r} cannot follow {before.name!r}, which leaves nothing to compress",
                    f"write {before.name} alone, or bitpack+{after.name}",
                )

    def _check_layers(self) -> None:
        alone, rest = len(self.stages) == 1, self.rest
        if self.on_base and (not alone or rest is None or rest.on_base or (rest.rest and rest.rest.is_exact)):
            raise UsageError("'base' is the first of two layers", "write base/exact, or base/ and a lossy pipeline")
        if any(isinstance(stage, Conditional) for stage in self.stages) and (not alone or rest is not None):
            raise UsageError("'exact' stands alone behind a /", "for example int4/exact")
        if rest is None or self.on_base:
            return
        if all(stage.lossless for stage in self.stages) or not (rest.is_exact or self._can_follow(rest)):
            first = grammar.text_of(self.stages)
            raise UsageError(
                f"{rest} cannot code what {first} leaves over",
                "write exact behind a lossy layer, or a quantizer behind low rank, like svd:rank=16+int8/int:bits=3",
            )

    def _can_follow(self, rest: Pipeline) -> bool:
        """Whether a second layer is a quantizer, and the first one is more."""
        quantizes = len(rest.transforms) == 1 and rest.transforms[0].last
        return rest.rest is None and quantizes and isinstance(self.stages[0], Transform) and not self.stages[0].last

    # As text and as JSON

    @classmethod
    def parse(cls, text: str, *, chain: bool = False) -> Pipeline:
        """Read a pipeline as it is written on the command line; the mirror image is `str`.

        In a storage `chain`, ``exact`` may stand alone: its first layer is in other parts.

        Raises
        ------
        UsageError
            For text that is no pipeline; the hint names what is nearest and what is allowed.
        """
        if text == registry.EXACT and not chain:
            raise UsageError("'exact' stands behind a /", "for example int4/exact; lossless alone keeps every bit")
        return cls._of(grammar.parse(text))

    @classmethod
    def _of(cls, layers: Sequence[tuple[Codec, ...]]) -> Pipeline:
        """The pipeline of these layers; a rank that is found by a second layer must have one."""
        made: Pipeline | None = None
        for stages in reversed(layers):
            made = cls(stages, made)
        assert made is not None
        for layer in (made, *([made.rest] if made.on_base and made.rest else [])):
            finders = [stage for stage in layer.stages if isinstance(stage, Transform) and stage.finds_rank]
            before = [stage.name for stage in layer.stages[: layer.stages.index(finders[0])]] if finders else []
            if finders and not (layer.has_residual and len(finders) == 1 and before in ([], [registry.POSITIVE])):
                name = finders[0].name
                hint = f"write a second layer, like {name}:rank=auto+int8/int:bits=3, or another way to give the rank"
                raise UsageError(f"{name}: rank=auto is chosen by what a second layer makes of the rest", hint)
        return made

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        first = grammar.text_of(self.stages)
        return first if self.rest is None else f"{first}/{self.rest}"

    def to_json(self) -> list[dict[str, Any]] | dict[str, Any]:
        """JSON form: the name of each codec and what differs from its defaults; of several layers, a list of these."""
        return grammar.json_of([layer.stages for layer in self.layers])

    @classmethod
    def from_json(cls, data: object) -> Pipeline:
        """Read the JSON form; defaults may be given too. Raises `UsageError` for what is not of that form."""
        return cls._of(grammar.read_json(data))

    # What it is

    @property
    def lossless(self) -> bool:
        """Whether every bit comes back."""
        return all(stage.lossless for stage in self.stages) if self.rest is None else self.rest.lossless

    @property
    def forced(self) -> bool:
        """Whether the user insists, even where nothing is gained."""
        return any(getattr(stage, "force", False) for stage in self.codecs)

    @property
    def layers(self) -> tuple[Pipeline, ...]:
        """Each layer as a pipeline of its own, the first one first."""
        return (self.first, *(() if self.rest is None else self.rest.layers))

    @cached_property
    def first(self) -> Pipeline:
        """The first layer alone."""
        return self if self.rest is None or self.on_base else Pipeline(self.stages)

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The stages of all layers."""
        return self.stages if self.rest is None else (*self.stages, *self.rest.codecs)

    @property
    def on_base(self) -> bool:
        """Whether the first layer is the tensor of a base."""
        return self.stages[0].name == registry.BASE

    @property
    def is_exact(self) -> bool:
        """Whether this is the layer that codes all that is left over."""
        return isinstance(self.stages[0], Conditional)

    @property
    def has_residual(self) -> bool:
        """Whether a lossy second layer codes what the first one leaves over."""
        return self.rest is not None and not self.on_base and not self.rest.is_exact

    @property
    def finds_rank(self) -> bool:
        """Whether a rank is chosen by what a second layer makes of the rest; of rank 0 there are no parts."""
        return any(stage.finds_rank for stage in self.transforms)

    def layer_of(self, part: str) -> Pipeline:
        """The layer that puts out a part, of this pipeline without a base."""
        return self.rest if self.rest is not None and part.startswith(f"{_REST}.") else self

    @cached_property
    def transforms(self) -> tuple[Transform, ...]:
        """The stages that turn arrays into arrays."""
        return tuple(stage for stage in self.stages if isinstance(stage, Transform))

    @cached_property
    def storers(self) -> tuple[Codec, ...] | None:
        """The stages that turn the codes into bytes; None when the smallest are to be chosen.

        A compressor without a serializer gets its bytes from ``bitpack``.
        """
        chain = tuple(stage for stage in self.stages if not isinstance(stage, Transform))
        if not chain or str(self.first) == "lossless":
            return None
        return (registry.get("bitpack")(), *chain) if isinstance(chain[0], Compressor) else chain

    def validate(self, spec: TensorSpec) -> None:
        """Check that a tensor of this spec can be taken.

        Raises
        ------
        Refused
            With the reason.
        """
        if not all(stage.lossless for stage in self.codecs) and not spec.is_float:
            raise Refused(f"{spec.dtype} is not floating point")
        if self.has_residual and spec.info.bits <= 8:
            raise Refused(f"differences of {spec.dtype} cannot be told by such floats")
        transform_chain.validate(self.transforms, spec)
        for stage in self.stages:
            if not isinstance(stage, Transform):
                stage.validate(spec)
        if self.rest is not None:
            self.rest.validate(spec)

    def leaves(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Upper bounds of the parts that are stored in the end.

        Parts of parts have their names joined by a dot: ``u.qdata``, ``u.scale``. Those of the second layer have
        ``rest.`` before their names.
        """
        leaves = transform_chain.leaves(self.transforms, PartBound("", spec, primary=True, optional=self.finds_rank))
        if self.rest is None:
            return leaves
        return (
            *leaves,
            *(replace(leaf, name=transform_chain.join(_REST, leaf.name)) for leaf in self.rest.leaves(spec)),
        )

    # What it does

    def encode(self, values: Values) -> dict[str, Values]:
        """Take a whole tensor through all transforms of all lossy layers; the mirror image is `decode`.

        Raises
        ------
        Refused
            When the data, NaN or Inf for one, cannot be taken.
        """
        if self.rest is None or not self.has_residual:
            return transform_chain.encode(self.transforms, values)
        if not self.finds_rank:
            return self._with_rest(values, transform_chain.encode(self.transforms, values))
        most, code = self._ranks(values)
        return best_rank(
            most,
            lambda rank: self._with_rest(values, code(rank)),
            lambda leaves: self.decode(leaves, values.spec),
            self.rest.transforms[0],
            values,
        )

    def encode_and_decode(self, values: Values) -> tuple[dict[str, Values], Array]:
        """The same, and what `decode` would make of it."""
        found = None
        if len(self.transforms) == 1 and not self.has_residual:
            leaves, found = self.transforms[0].encode_and_decode(values)
        else:
            leaves = self.encode(values)
        return leaves, self.decode(leaves, values.spec) if found is None else found().reshape(values.spec.shape)

    def _ranks(self, values: Values) -> tuple[int, Callable[[int], dict[str, Values]]]:
        """The highest rank, and what codes the first layer with one; nothing is left of it at rank 0."""
        at = [stage.finds_rank for stage in self.transforms].index(True)
        before, tail = self.transforms[:at], self.transforms[at + 1 :]
        outer = transform_chain.encode(before, values)
        inner = next(
            leaf.name
            for leaf in transform_chain.leaves(before, PartBound("", values.spec, primary=True))
            if leaf.primary
        )
        ranked = self.transforms[at].ranked(outer[inner])

        def code(rank: int) -> dict[str, Values]:
            leaves: dict[str, Values] = {}
            for name, leaf in outer.items() if rank else ():
                if name != inner:
                    leaves[name] = leaf
                    continue
                for part, found in ranked.parts(rank).items():
                    leaves |= transform_chain.encode(tail, found, transform_chain.join(inner if before else "", part))
            return leaves

        return ranked.most, code

    def _with_rest(self, values: Values, leaves: dict[str, Values]) -> dict[str, Values]:
        """The leaves of the first layer and those of the second."""
        assert self.rest is not None
        first = self.first.decode(leaves, values.spec)
        rest = code_rest(self.rest.transforms[0], values, first, stored_bits(leaves, self.first.storers))
        return leaves | {transform_chain.join(_REST, name): leaf for name, leaf in rest.items()}

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Storage bits of a whole tensor from the parts that `encode` returned.

        Raises
        ------
        ValueError
            When a part is missing or has the wrong shape.
        """
        decoded = self._decode_first(parts, spec)
        if decoded.spec != spec:
            raise ValueError(f"parts of {decoded.spec}, not of {spec}")
        if self.rest is None or not self.has_residual:
            return decoded.array
        return add(decoded.array, self.rest.decode(transform_chain.below(_REST, parts), spec), spec)

    def _decode_first(self, parts: Mapping[str, Values], spec: TensorSpec) -> Values:
        if self.is_first_missing(parts):
            return Values(spec, np.zeros(spec.storage_shape, spec.storage))
        return transform_chain.decode(self.transforms, parts, spec)

    def is_first_missing(self, leaves: Mapping[str, Values]) -> bool:
        """Whether a rank of 0 was found."""
        return self.finds_rank and all(name.startswith(f"{_REST}.") for name in leaves)

    def unpack(self, leaves: Mapping[str, Values], spec: TensorSpec) -> dict[str, Values]:
        """The parts that the first transform put out, taken back from what followed; a second layer's if it is lossy.

        Raises
        ------
        ValueError
            As for `decode`.
        """
        parts: dict[str, Values] = {}
        head, *tail = self.transforms or (None,)
        bounds = self.first.leaves(spec) if head is None else head.parts(spec)
        for part in () if self.is_first_missing(leaves) else bounds:
            if not (part.optional and transform_chain.is_missing(part.name, leaves)):
                parts[part.name] = transform_chain.decode(tail if part.primary else (), leaves, part.spec, part.name)
        if self.has_residual and self.rest is not None:
            rest = self.rest.unpack(transform_chain.below(_REST, leaves), spec)
            parts |= {transform_chain.join(_REST, name): part for name, part in rest.items()}
        return parts


def _rank(stage: Codec) -> int:
    """Place of its kind in a pipeline."""
    return [isinstance(stage, kind) for kind in (Transform, Serializer | Conditional, Compressor)].index(True)
