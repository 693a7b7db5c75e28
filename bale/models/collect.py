"""Collects statistics of a model run on lines of text, and writes them to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bale.errors import OutputError, SourceError
from bale.io.statistics import COVARIANCE, write_statistics
from bale.io.storage.commit import check_target
from bale.models.folder import check_model
from bale.models.model import Model, load_model
from bale.models.moments import Collector
from bale.spec import Array

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Collected:
    """A file of statistics that has been written, and the number of lines and tokens behind it."""

    path: Path
    tensors: int
    lines: int
    tokens: int
    notes: tuple[str, ...]


def collect(
    folder: Path,
    lines: Sequence[str],
    out: Path | None,
    *,
    length: int,
    covariance: bool = False,
    threads: int | None = None,
    force: bool = False,
    inputs: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> Collected:
    """Run a model on lines of text, and write the statistics of its inputs.

    Parameters
    ----------
    folder : Path
        Of a transformers model: config, tokenizer and weights.
    lines : sequence of str
        Each is a text of its own.
    out : Path or None
        Not in `folder`, where it would be taken for weights. None for a name beside the folder.
    length : int
        Tokens of a line at the most.
    inputs : tuple of Path
        Files that must not be overwritten.
    progress : callable or None
        Called with the number of a line and its bytes whenever one has been run.

    Raises
    ------
    UsageError, SourceError, OutputError
        See `bale.errors`; nothing is left behind.
    """
    check_model(folder)
    out = out if out is not None else _beside(folder)
    _check_outside(out, folder)
    check_target(out, force, (*inputs, *(path for path in folder.rglob("*") if path.is_file())))
    model = load_model(folder)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)

    def done(place: int) -> None:
        if progress is not None:
            progress(f"line {place + 1}", len(lines[place].encode()))

    tokens = model.tokens_of(lines, length)
    with Collector(model.torch_model, covariance=covariance) as collector:
        model.run(tokens, done)
    tensors, notes = _entries(collector, model)
    total = sum(map(len, tokens))
    metadata = {"tool": f"bale {version('bale')}", "lines": str(len(lines)), "tokens": str(total)}
    write_statistics(out, tensors, metadata, force)
    count = sum(not name.endswith(COVARIANCE) for name in tensors)
    return Collected(out, count, len(lines), total, (*model.notes, *notes))


def _beside(folder: Path) -> Path:
    place = Path(os.path.abspath(folder))  # a link has a name of its own
    return place.parent / f"{place.name}.stats.safetensors"


def _check_outside(out: Path, folder: Path) -> None:
    if out.parent.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"cannot write {out}: it is in the model's folder", "choose another place with -o")


def _entries(collector: Collector, model: Model) -> tuple[dict[str, Array], list[str]]:
    """The entries of the file, by name, and a note on weights that have no place in it."""
    tensors: dict[str, Array] = {}
    lost: list[str] = []
    for moments in collector.moments():
        names = [model.stored_name(name, moments.weight) for name in moments.names]
        for name in dict.fromkeys(name for name in names if name is not None):
            for key, array in ((name, moments.second), (name + COVARIANCE, moments.covariance)):
                if array is not None:
                    if not np.isfinite(array).all():
                        raise SourceError(f"the inputs of {name} are not finite", "the model is broken, or was cast")
                    tensors[key] = array
        if not any(names):
            lost += moments.names[:1]
    if not tensors:
        raise SourceError("no layer of the model has a weight of its name and shape in the folder's files")
    note = f"the folder's files have no tensor for {len(lost)} of the layers, first {lost[0]}" if lost else ""
    return tensors, [note] if note else []
