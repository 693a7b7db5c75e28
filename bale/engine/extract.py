"""Taking single tensors out of an archive into a safetensors file."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from bale.engine.reading.archives import Archives
from bale.engine.run import Run
from bale.errors import UsageError
from bale.io.archive.archive import is_archive, open_archive
from bale.io.safetensors import PREAMBLE, header_block, header_text, padded
from bale.io.storage.commit import Target
from bale.planning.patterns import bracket_hint, compile_pattern, is_name
from bale.spec import TensorSpec

NPY = ".npy"
_OTHER = {
    ".npz": "numpy's archives",
    ".pt": "PyTorch files",
    ".pth": "PyTorch files",
    ".bin": "PyTorch files",
    ".ckpt": "PyTorch files",
    ".gguf": "GGUF files",
    ".h5": "HDF5 files",
    ".hdf5": "HDF5 files",
    ".onnx": "ONNX files",
}

_NOT_WHOLE = {NPY: "npy", ".npz": "npz", ".gguf": "gguf", ".h5": "hdf5", ".hdf5": "hdf5", ".onnx": "onnx"}
"""Suffixes that no whole checkpoint has, but one of that kind."""
_SMALL = 1 << 16  # bytes of a tensor that is decoded whole


def extract_tensors(
    opened: Archives, patterns: Sequence[str], out: Path, run: Run, *, force: bool = False
) -> tuple[int, bool]:
    """Decode the tensors whose whole name matches a pattern, one at a time.

    The name of `out` may end in ``.npy``, for one tensor. Returns the size of the file, and whether these tensors are
    the source's bit for bit. Raises `UsageError` for a pattern that matches nothing, and for a name or dtype that the
    format does not have.
    """
    kind = check_suffix(out)
    names = _matching(opened, patterns)
    specs = [(name, opened.spec(name)) for name in names]
    run.expect(sum(spec.nbytes for _, spec in specs))
    if kind == NPY:
        return _extract_array(opened, specs, out, run, force)
    for name, spec in specs:
        if name == "__metadata__":
            raise UsageError(f"a safetensors file cannot hold a tensor called {name}", "decompress the whole archive")
        if not spec.info.portable:
            raise UsageError(
                f"{name} is {spec.dtype}, which a safetensors file cannot hold", "decompress the whole archive"
            )
    text = header_text({"format": "pt"}, specs)
    room = padded(len(text))
    with Target(out, os.stat(opened.paths[0]), force, opened.paths) as target:
        at = PREAMBLE + room
        target.reserve(at + sum(spec.nbytes for _, spec in specs))
        target.write(header_block(text, room), 0)
        for name, spec in specs:
            small = spec.nbytes <= _SMALL
            for block in [np.ascontiguousarray(opened.bits(name))] if small else opened.blocks(name):
                target.write(block, at)
                at += block.nbytes
                run.progress(name, block.nbytes)
        target.commit()
    return at, all(map(opened.is_exact, names))


def check_suffix(out: Path) -> str:
    """The suffix of a file for tensors; `UsageError` for one that promises a format that is not written."""
    suffix = out.suffix.lower()
    if suffix in _OTHER:
        raise UsageError(
            f"{out}: tensors are written as safetensors, and {suffix} is the suffix of {_OTHER[suffix]}",
            "name it .safetensors, or .npy for one tensor",
        )
    return suffix


def _extract_array(
    opened: Archives, specs: Sequence[tuple[str, TensorSpec]], out: Path, run: Run, force: bool
) -> tuple[int, bool]:
    """Write one tensor as numpy's own file, of a dtype that numpy has."""
    if len(specs) != 1:
        raise UsageError(f"{out}: a .npy file holds one array, and {len(specs)} tensors match", "name it .safetensors")
    ((name, spec),) = specs
    if not spec.info.of_numpy:
        raise UsageError(f"{name} is {spec.dtype}, which numpy does not have", "name it .safetensors")
    header = io.BytesIO()
    write_array_header_1_0(header, {"descr": dtype_to_descr(spec.storage), "fortran_order": False, "shape": spec.shape})
    with Target(out, os.stat(opened.paths[0]), force, opened.paths) as target:
        size = len(header.getvalue()) + spec.nbytes
        target.reserve(size)
        target.write(header.getvalue(), 0)
        target.write(np.ascontiguousarray(opened.bits(name)), len(header.getvalue()))
        run.progress(name, spec.nbytes)
        target.commit()
    return size, opened.is_exact(name)


def check_whole(archive: Path, out: Path) -> None:
    """Raise `UsageError` where a whole checkpoint would get the suffix of a format that it is not."""
    own = _NOT_WHOLE.get(out.suffix.lower())
    if own is not None and is_archive(archive):
        with open_archive(archive) as opened:
            kind = opened.manifest.kind
        if kind not in ("opaque", own):
            hint = "give it another suffix, or name a tensor with --tensor"
            raise UsageError(f"{out} would be a whole checkpoint, of kind {kind}", hint)


def _matching(opened: Archives, patterns: Sequence[str]) -> list[str]:
    """The names that match; those qualified by files where one that several have does, or else where no plain one."""
    chosen: set[str] = set()
    for pattern in patterns:
        expression = compile_pattern(pattern, "--tensor")
        found = {pattern} if is_name(pattern, opened) else {name for name in opened if expression.matches(name)}
        found |= {each for name, several in opened.shared.items() if expression.matches(name) for each in several}
        found = found or {name for name in opened.qualified if expression.matches(name)}
        if not found:
            hint = f"see the names with `bale inspect`{bracket_hint(pattern)}"
            raise UsageError(f"--tensor {pattern!r} matches no tensor", hint)
        chosen |= found
    return [name for name in (*opened, *opened.qualified) if name in chosen]
