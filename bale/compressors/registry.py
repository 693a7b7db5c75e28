"""All codecs by name, and those of other packages. A codec's module is imported when the codec is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from bale.compressors import plugins
from bale.compressors.base import Codec, Compressor, Conditional, Quantizer, Serializer, Transform
from bale.compressors.settings import format_value, settings, suggestion
from bale.errors import UsageError


def unique(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Make a table of names; raise `ValueError` when a name comes twice."""
    table: dict[str, str] = {}
    for name, value in entries:
        if name in table:
            raise ValueError(f"two codecs are called {name!r}")
        table[name] = value
    return table


BASE, EXACT = "base", "exact"
"""The codecs that stand before and behind a ``/``."""

POSITIVE = "positive"
"""The codec that may stand before one that finds a rank."""

_CODECS = [
    (BASE, "bale.compressors.conditional.base_tensor:Base"),
    ("bitpack", "bale.compressors.serializers.bitpack:Bitpack"),
    ("codebook", "bale.compressors.quantizers.codebook:Codebook"),
    ("cp", "bale.compressors.lowrank.cp:Cp"),
    (EXACT, "bale.compressors.conditional.exact:Exact"),
    ("fp8", "bale.compressors.quantizers.microscaling:Fp8"),
    ("huffman", "bale.compressors.serializers.huffman:Huffman"),
    ("int", "bale.compressors.quantizers.linear:Int"),
    ("log", "bale.compressors.quantizers.logarithmic:Log"),
    ("lossless", "bale.compressors.lossless.codec:Lossless"),
    ("mx", "bale.compressors.quantizers.microscaling:Mx"),
    ("nf4", "bale.compressors.quantizers.nf4:Nf4"),
    ("nvfp4", "bale.compressors.quantizers.microscaling:Nvfp4"),
    (POSITIVE, "bale.compressors.quantizers.positive:Positive"),
    ("rans", "bale.compressors.serializers.rans:Rans"),
    ("records", "bale.compressors.serializers.records:Records"),
    ("svd", "bale.compressors.lowrank.svd:Svd"),
    ("trellis", "bale.compressors.trellis.codec:Trellis"),
    ("tt", "bale.compressors.lowrank.tt:Tt"),
    ("tucker", "bale.compressors.lowrank.tucker:Tucker"),
    ("words", "bale.compressors.lossless.words:Words"),
    ("zstd", "bale.compressors.serializers.zstd:Zstd"),
]
_ALIASES = [
    ("int4", "int:bits=4,group=64"),
    ("int8", "int"),
    ("mxfp4", "mx"),
    ("mxfp6", "mx:format=e2m3"),
    ("mxfp8", "mx:format=e4m3"),
]
_NAMES = unique(_CODECS + _ALIASES)
CODECS = dict(_CODECS)
"""Where the class of each codec stands."""
ALIASES = dict(_ALIASES)
"""Short names for one configuration of a codec."""

_KINDS = (Quantizer, Transform, Serializer, Conditional, Compressor)


def names() -> tuple[str, ...]:
    """Names of bale's own codecs, in order; aliases are not among them."""
    return tuple(CODECS)


def is_known(name: str) -> bool:
    """Whether bale or an installed package calls a codec so, which need not be one that can be used."""
    return name in CODECS or name in plugins.claims()


def package(name: str) -> str | None:
    """Name and version of the package that a known codec comes from; None for bale's own."""
    return None if name in CODECS else plugins.claims()[name][0].package


@cache
def get(name: str) -> type[Codec]:
    """Class of a codec; other packages are searched for what is none of bale's own.

    Raises
    ------
    UsageError
        When there is none of this name; the hint names the nearest ones. When two packages have one, or it cannot be
        used.
    """
    if name not in CODECS:
        if name in plugins.claims():
            return plugins.load(plugins.only(name, tuple(_NAMES)))
        known = (*_NAMES, *(each for each in sorted(plugins.claims()) if each not in _NAMES))
        raise UsageError(
            f"there is no codec {name!r}", f"{suggestion(name, known)} there are {', '.join(known)}".strip()
        )
    module, _, attribute = CODECS[name].partition(":")
    found = getattr(import_module(module), attribute)
    if found.name != name:
        raise TypeError(f"{CODECS[name]} calls itself {found.name!r}")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Parameter:
    """A setting of a codec, as it is shown to users; `default` is None when it is not set."""

    name: str
    type: str
    default: Any
    allowed: str
    help: str

    @property
    def written(self) -> str | None:
        """The default as it is written in a pipeline, if there is one."""
        return None if self.default is None else format_value(self.default)


@dataclass(frozen=True)
class Description:
    """A codec as it is shown to users; all of it stands in the codec's class.

    Attributes
    ----------
    summary : str
        One line.
    details : str
        The rest of the docstring.
    aliases : dict of str to str
        Short names, and the text that each stands for.
    package : str or None
        Name and version of the package that it comes from; None for bale's own.
    """

    name: str
    version: int
    kind: str
    lossless: bool
    summary: str
    details: str
    parameters: tuple[Parameter, ...]
    aliases: dict[str, str]
    package: str | None


def describe(name: str) -> Description:
    """Describe a codec, or the one that an alias stands for. Raises `UsageError` as `get` does."""
    name = ALIASES.get(name, name).partition(":")[0]
    codec = get(name)
    summary, _, details = (codec.__doc__ or "").partition("\n")
    return Description(
        name=name,
        version=codec.version,
        kind=next(kind.__name__.lower() for kind in _KINDS if issubclass(codec, kind)),
        lossless=codec.lossless,
        summary=summary.strip(),
        details="\n".join(line.removeprefix("    ") for line in details.strip().splitlines()),
        parameters=tuple(
            Parameter(each.name, each.type, each.default, each.allowed, each.help) for each in settings(codec).values()
        ),
        aliases={alias: text for alias, text in ALIASES.items() if text.partition(":")[0] == name},
        package=package(name),
    )


def describe_others() -> tuple[list[Description], list[str]]:
    """Describe all codecs of other packages, and say what is wrong with those that cannot be used.

    Raises
    ------
    UsageError
        When two codecs have one name.
    """
    described, unusable = [], []
    claimed = [plugins.only(name, tuple(_NAMES)).name for name in sorted(plugins.claims())]
    for name in claimed:
        try:
            described.append(describe(name))
        except UsageError as problem:
            unusable.append(str(problem))
    return described, unusable
