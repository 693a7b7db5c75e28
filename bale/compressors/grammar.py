"""The grammar of pipelines, as text and as JSON: layers of stages, and a stage as a codec with its settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bale.compressors import registry
from bale.compressors.base import Codec
from bale.compressors.settings import format_value, settings, suggestion
from bale.errors import UsageError

SYNTAX = "it is codec[:key=value,...][+codec...][/...], for example trellis:bits=4 or int4/exact"
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.:=,+/-]")
Stages = tuple[Codec, ...]


def parse(text: str) -> list[Stages]:
    """The stages of each layer; the mirror image is `text_of`. Raises `UsageError` for text that is no pipeline."""
    if found := _FORBIDDEN.search(text):
        raise UsageError(f"the character {found[0]!r} is not allowed in the pipeline {text!r}", SYNTAX)
    return [tuple(_parse_stage(stage, text) for stage in layer.split("+")) for layer in text.split("/")]


def text_of(stages: Stages) -> str:
    """One layer as text: settings that differ from the defaults, and short names where one fits."""
    return "+".join(map(_format_stage, stages))


def read_json(data: object) -> list[Stages]:
    """The stages of each layer; the mirror image is `json_of`. Raises `UsageError` for what is not of that form."""
    layers = data.get("layers") if isinstance(data, dict) and data.keys() == {"layers"} else [data]
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, list) for layer in layers):
        raise UsageError("a pipeline in JSON is a list of codecs", 'or {"layers": [...]} of such as [{"name": "int4"}]')
    return [tuple(_read_stage(item) for item in layer) for layer in layers]


def json_of(layers: Sequence[Stages]) -> list[dict[str, Any]] | dict[str, Any]:
    """The name of each codec and what differs from its defaults; of several layers, a list of these."""
    written = [[{"name": stage.name, "configuration": _changed(stage)} for stage in layer] for layer in layers]
    return written[0] if len(written) == 1 else {"layers": written}


def _parse_stage(text: str, whole: str) -> Codec:
    name, colon, rest = text.partition(":")
    if not name or (colon and not rest):
        raise UsageError(f"the pipeline {whole!r} has an empty stage", SYNTAX)
    if name in registry.ALIASES:
        if rest:
            meant = registry.ALIASES[name]
            raise UsageError(f"{name} takes no parameters", f"it stands for {meant}; write that one out")
        return _parse_stage(registry.ALIASES[name], whole)
    codec = registry.get(name)
    given: dict[str, Any] = {}
    for pair in rest.split(",") if rest else []:
        key, equals, value = pair.partition("=")
        if not equals or not value or "=" in value or ":" in value:
            raise UsageError(f"{pair!r} in the pipeline {whole!r} is not key=value", SYNTAX)
        if key in given:
            raise UsageError(f"{name}: {key} is given twice")
        _check_key(codec, key)
        try:
            given[key] = settings(codec)[key].parse(value)
        except ValueError as problem:
            raise UsageError(f"{name}: {problem}", suggestion(value, settings(codec)[key].words)) from None
    return codec(**given)


def _format_stage(stage: Codec) -> str:
    pairs = ",".join(f"{key}={format_value(value)}" for key, value in _changed(stage).items())
    text = f"{stage.name}:{pairs}" if pairs else stage.name
    return next((alias for alias, meant in registry.ALIASES.items() if meant == text), text)


def _read_stage(item: object) -> Codec:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item.keys() - {"name", "configuration"}:
        raise UsageError(f"{item!r} is not a codec in JSON", 'it is {"name": ..., "configuration": {...}}')
    codec, given = registry.get(item["name"]), item.get("configuration", {})
    if not isinstance(given, dict):
        raise UsageError(f"{codec.name}: the configuration {given!r} is not an object")
    for key in given:
        _check_key(codec, key)
    return codec(**given)


def _changed(stage: Codec) -> dict[str, Any]:
    """Settings that differ from the defaults, in the order of the fields."""
    known = settings(type(stage))
    return {key: value for key, value in stage.configuration().items() if value != known[key].default}


def _check_key(codec: type[Codec], key: object) -> None:
    known = tuple(settings(codec))
    if key not in known:
        hint = f"{suggestion(str(key), known)} it has {', '.join(known) or 'none'}"
        raise UsageError(f"{codec.name} has no parameter {key!r}", hint.strip())
