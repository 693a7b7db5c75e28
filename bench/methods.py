"""Methods that quantize, bale's pipelines and those of other projects, with all that they store counted."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import bale
from bale.planning.budget import make_budget
from bench.peers.venvs import call

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Coded:
    """Tensors by a method.

    Attributes
    ----------
    stored : mapping of str to int
        Bytes that each takes.
    values : mapping of str to array
        What comes back.
    size : int
        Bytes of bale's archive.
    exact : frozenset of str
        Tensors that bale stored without loss.
    """

    stored: Mapping[str, int]
    values: Tensors
    size: int = 0
    exact: frozenset[str] = frozenset()

    def bits(self, source: Tensors) -> float:
        """Bits for each weight of all tensors."""
        return 8 * sum(self.stored.values()) / sum(tensor.size for tensor in source.values())

    def mean_snr(self, source: Tensors) -> float:
        """The mean over the tensors, dB; tensors that came back exactly do not count."""
        errors = {name: self.error(source, name) for name in source}
        return fmean(decibel(power(source[name]), error) for name, error in errors.items() if error)

    def pooled_snr(self, source: Tensors) -> float:
        """Of all tensors as one, dB."""
        return decibel(sum(map(power, source.values())), sum(self.error(source, name) for name in source))

    def error(self, source: Tensors, name: str) -> float:
        """Sum of squared errors of a tensor."""
        return power(source[name].astype(np.float64) - self.values[name])


def power(values: Array) -> float:
    """Sum of squares."""
    flat = values.astype(np.float64, copy=False).reshape(-1)
    return float(flat @ flat)


def decibel(signal: float, error: float) -> float:
    return 10 * log10(signal / error) if error else np.inf


def save(tensors: Tensors, path: Path) -> Path:
    """A safetensors file of the tensors."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def by_bale(source: Path, pipelines: str | Mapping[str, str], work: Path, any_way: bool = False) -> Coded:
    """All tensors of a safetensors file by one pipeline, whatever their size, or each by its own.

    Bytes are those of the report. A tensor that was stored without loss instead, as bale does with what would grow,
    ends the bench, unless that is asked for by `any_way`.
    """
    recipe, archive = work / "recipe.toml", work / "coded.bale"
    if isinstance(pipelines, str):
        rules = {"*": pipelines}
    else:
        rules = {f"re:{re.escape(name)}": text for name, text in pipelines.items()}
    lines = (f"[[rule]]\nname = {json.dumps(name)}\npipeline = {json.dumps(text)}\n" for name, text in rules.items())
    recipe.write_text("".join(lines), encoding="utf-8")
    report = bale.compress(source, archive, recipe=recipe, force=True)
    coded = _read(report.to_json(), archive)
    plain = [name for name, values in coded.values.items() if name in coded.exact and values.any()]
    if plain and not any_way:
        sys.exit(f"{pipelines} left {len(plain)} tensors as they are, of them {plain[0]}")
    return coded


def by_budget(source: Path, bits: float, weight: str, work: Path) -> Coded:
    """All tensors of a safetensors file by a budget in bits a weight; what lies beside the file is read too."""
    archive = work / "coded.bale"
    budget = make_budget(weight=weight, bits=f"{bits:g}")
    return _read(bale.compress(source, archive, budget=budget, force=True).to_json(), archive)


def _read(report: Mapping[str, Any], archive: Path) -> Coded:
    """What an archive holds; it is gone afterwards."""
    with bale.open(archive) as opened:
        values = {name: np.asarray(opened[name]) for name in opened}
    archive.unlink()
    stored = {row["name"]: row["stored_bytes"] for row in report["tensors"]}
    exact = frozenset(row["name"] for row in report["tensors"] if row["relative_error"] == 0)
    return Coded(stored, values, report["archive"]["bytes"], exact)


def by_peers(source: Path, methods: Sequence[str], python: Path, work: Path) -> dict[str, Coded]:
    """All tensors of a safetensors file by each method of bench/peers/quantizers.py, in the peers' venv."""
    from safetensors.numpy import load_file

    printed = call(python, "bench.peers.quantizers", source, work, *methods, TQDM_DISABLE="1")
    stored = json.loads(printed.splitlines()[-1])
    found = {}
    for method in methods:
        path = work / f"{method}.safetensors"
        found[method] = Coded(stored[method], load_file(path))
        path.unlink()
    return found
