"""How long the structure of a file of very many tensors takes to read, by its format."""

from __future__ import annotations

import io
import pickle
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy

from bale.io.sources.open import open_checkpoint
from bench.common import PYTHON, Limit, page, run_process, table, workspace
from bench.section import Run, Section

MANY, FEW = 100_000, 2_000  # tensors, and those of a quick run
LIMIT = 3.0  # seconds of CPU

TEXT = (
    "{count:,} tensors of 4 x 4 float32, in files as the library of each format writes them. *Reading* opens the file "
    "and lists its tensors, within a process, the least of {rounds}; the last column is one run of all of "
    "`bale inspect --json`. Both are seconds of CPU on a machine that was busy with other work: an idle one takes less."
)

Arrays = dict[str, np.ndarray]


def section(run: Run) -> str:
    count, rounds = FEW if run.quick else MANY, run.rounds(2)
    values = np.random.default_rng(0).standard_normal((count, 4, 4)).astype(np.float32)
    arrays = {f"model.layers.{number // 40}.block.{number % 40}.weight": each for number, each in enumerate(values)}
    rows = []
    with workspace(in_memory=1e9) as work:
        for name, write in WRITERS.items():
            path = work / name
            write(arrays, path)
            reading = min(_reading(path) for _ in range(rounds))
            command = (PYTHON, "-m", "bale", "inspect", "--json", path)
            whole = run_process(command).cpu
            kind = open_checkpoint(path).kind
            size = f"{path.stat().st_size:,}"
            rows.append([f"`{kind}`", size, f"{reading:.2f}", Limit(LIMIT).cell(reading), f"{whole:.2f}"])
            path.unlink()
    head = ("read as", "bytes", "reading, s", "limit", "inspect, s")
    return page(TEXT.format(count=count, rounds=rounds), table(head, rows))


def _reading(path: Path) -> float:
    start = time.process_time()
    open_checkpoint(path)
    return time.process_time() - start


def _torch(legacy: bool, arrays: Arrays, path: Path) -> None:
    import torch

    tensors = {name: torch.from_numpy(each.copy()) for name, each in arrays.items()}  # each with its own storage
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)


def _tar(arrays: Arrays, path: Path) -> None:
    with tarfile.open(path, "w:") as written:
        for name, each in arrays.items():
            data = io.BytesIO()
            np.save(data, each)
            member = tarfile.TarInfo(f"{name}.npy")
            member.size = data.tell()
            data.seek(0)
            written.addfile(member, data)


WRITERS: dict[str, Callable[[Arrays, Path], object]] = {
    "m.safetensors": lambda arrays, path: safetensors.numpy.save_file(arrays, path),
    "m.pt": partial(_torch, False),
    "legacy.pt": partial(_torch, True),
    "m.npz": lambda arrays, path: np.savez(path, allow_pickle=False, **arrays),
    "m.pkl": lambda arrays, path: path.write_bytes(pickle.dumps(arrays, 4)),
    "m.tar": _tar,
}
"""By the names of the files."""

SECTION = Section("structure", "Structure of many tensors", (), section)
