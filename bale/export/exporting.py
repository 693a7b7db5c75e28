"""`export`: the archives of a model in a format that other software loads, without rounding anything again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.engine.folder.files import is_inside
from bale.engine.run import Progress, Run, one_blas_thread
from bale.errors import OutputError, UsageError
from bale.export.model import Model, Stored
from bale.export.target import Carried, FileTarget, NotCarried, Order, Piece, Target
from bale.export.target import dense as dense_piece
from bale.export.targets import target_of
from bale.export.writing import write_folder, write_weights
from bale.io.folders.marked import CONFIG
from bale.io.folders.record import RECORD
from bale.planning.patterns import compile_pattern

_SHOWN = 5  # tensors that are refused by name
_LOSSLESS = "exact"
_DENSE = "dense"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    bytes : int
        Of all files.
    schemes : mapping of str to str
        How each tensor is stored there: ``exact`` and ``dense`` for decoded values, of lossless and of lossy tensors.
    """

    path: Path
    bytes: int
    schemes: Mapping[str, str]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tensors are stored in each way, the most frequent first."""
        return dict(Counter(self.schemes.values()).most_common())

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"path": str(self.path), "bytes": self.bytes, "schemes": dict(self.schemes)}


def export(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    dense: Sequence[str] = (),
    lossy_scales: bool = False,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write an archive, or a folder of them, in a format that other software loads.

    Nothing is quantized again: the numbers of the archive are carried over, or its decoded values are written; a tensor
    for which neither is asked for is refused by name.

    Parameters
    ----------
    source : path
        An archive, or a folder of them as ``compress`` makes it of a model's folder.
    to : str
        The format; see `bale.export.targets`.
    out : path
        A folder; for one archive without a folder a ``.safetensors`` file; for ``gguf`` a file.
    dense : sequence of str
        Name patterns (`fnmatch`, or ``re:``) of tensors that are written with their decoded values.
    lossy_scales : bool
        Whether scales may be rounded to the dtype that the format has for them.

    Returns
    -------
    Exported
        Size, and how each tensor is stored.

    Raises
    ------
    UsageError
        When tensors cannot be carried over, with the setting that would do, or a pattern matches nothing.
    ArchiveError, OutputError
        See `bale.errors`; nothing is left behind.
    """
    source, out, target = Path(source), Path(out), target_of(to)
    with Run(threads, progress=progress) as run, Model(source, run) as model, one_blas_thread():
        target.check(model)
        if model.folder is not None and is_inside(out, model.folder):
            raise OutputError(
                f"cannot write {out}: it is or lies in the compressed folder", "choose another place with -o"
            )
        if any(out.exists() and path.samefile(out) for path in model.paths):
            raise OutputError(f"cannot write {out}: it is the input", "choose another name with -o")
        found = _decided(model, target, _chosen(model, dense), lossy_scales)
        _check_together(target, model, found)
        files = {name: _pieces(tensors, found) for name, tensors in model.files.items()}
        beside = _beside(found.values())
        run.expect(sum(piece.spec.nbytes for pieces in (*files.values(), *beside.values()) for piece in pieces))
        schemes = {each.name: _scheme(each, found.get(each.name)) for each in model.tensors}
        if isinstance(target, FileTarget):
            by_name = {piece.name: piece for pieces in files.values() for piece in pieces}
            return Exported(out, target.write(Order(model, found, by_name, out, run, force)), schemes)
        if model.folder is None and out.suffix == ".safetensors":
            (pieces,) = files.values()
            return Exported(out, write_weights(out, pieces, run, force, False)[0], schemes)
        texts = {}
        if model.config is not None:
            others = [each.name for each in model.tensors if each.name not in found]
            texts[CONFIG] = json.dumps(target.config(model.config, found, others), indent=2) + "\n"
            texts |= target.texts(model.config, found)
        copies = {} if model.folder is None else {name: model.folder / name for name in model.beside}
        work = {"export": to, "dense": list(dense), "lossy_scales": lossy_scales, "source": _digest(model)}
        return Exported(out, write_folder(out, files, beside, texts, copies, run, force, work), schemes)


def _chosen(model: Model, patterns: Sequence[str]) -> set[str]:
    """The names that the patterns of `dense` match."""
    names, chosen = [each.name for each in model.tensors], set()
    for text in patterns:
        pattern = compile_pattern(text, "--dense")
        found = {name for name in names if pattern.matches(name)}
        if not found:
            raise UsageError(f"--dense {text!r} matches no tensor of {model.path}", "see them with `bale inspect`")
        chosen |= found
    return chosen


def _decided(model: Model, target: Target, chosen: set[str], lossy_scales: bool) -> dict[str, Carried]:
    """The tensors that are carried over; raises for those that can be neither that nor dense."""
    found: dict[str, Carried] = {}
    refused: list[tuple[str, NotCarried]] = []
    for tensor in model.tensors:
        if tensor.name in chosen:
            continue
        try:
            carried = target.carry(tensor, lossy_scales)
        except NotCarried as problem:
            refused.append((tensor.name, problem))
        else:
            if carried is not None:
                found[tensor.name] = carried
    if refused:
        _refuse(target, refused)
    return found


def _refuse(target: Target, refused: Sequence[tuple[str, NotCarried]]) -> None:
    names = "; ".join(f"{name}: {problem.reason}" for name, problem in refused[:_SHOWN])
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    settings = " or ".join(dict.fromkeys(problem.setting for _, problem in refused if problem.setting))
    first = f"compress with {settings}, or " if settings else ""
    raise UsageError(
        f"{len(refused)} tensors cannot be carried over to {target.name}: {names}{more}",
        f"{first}leave them dense: --dense GLOB",
    )


def _check_together(target: Target, model: Model, found: Mapping[str, Carried]) -> None:
    """Raise for tensors that must be stored alike and are not."""
    groups: dict[str, dict[str, str]] = {}
    for tensor in model.tensors:
        key = target.together(tensor.name)
        if key is not None:
            carried = found.get(tensor.name)
            groups.setdefault(key, {})[tensor.name] = _DENSE if carried is None else carried.scheme
    for schemes in groups.values():
        if len(set(schemes.values())) > 1:
            what = ", ".join(f"{name} ({scheme})" for name, scheme in schemes.items())
            raise UsageError(
                f"{target.name}: what is loaded as one tensor must be stored alike: {what}",
                "compress them with one pipeline, or leave them all dense: --dense GLOB",
            )


def _pieces(tensors: Sequence[Stored], found: Mapping[str, Carried]) -> list[Piece]:
    pieces: list[Piece] = []
    for tensor in tensors:
        pieces += found[tensor.name].pieces if tensor.name in found else (dense_piece(tensor),)
    return pieces


def _beside(found: Iterable[Carried]) -> dict[str, list[Piece]]:
    """The tensors of further files."""
    files: dict[str, list[Piece]] = {}
    for carried in found:
        for name, pieces in carried.beside.items():
            files.setdefault(name, []).extend(pieces)
    return files


def _scheme(tensor: Stored, carried: Carried | None) -> str:
    return carried.scheme if carried is not None else _LOSSLESS if tensor.exact else _DENSE


def _digest(model: Model) -> str:
    """Says which archives these are, so that a run that was killed goes on with its own work only."""
    path = model.path if model.folder is None else model.folder / RECORD
    if model.folder is not None:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}"
