"""A first run waits for no compiler: with the loops in C nothing imports numba."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

RUN = """
import sys
from pathlib import Path

import bale

folder, pipeline, based = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
source, packed, back = (folder / name for name in ("b.safetensors", "packed.bale", "back.safetensors"))
base = folder / "a.safetensors" if based else None
report = bale.compress(source, packed, pipeline=pipeline, base=base, force=True)
bale.decompress(packed, back, base=base, force=True)
exact = back.read_bytes() == source.read_bytes()
print(exact, sorted({each.pipeline for each in report.rows}), [name for name in sys.modules if name == "numba"])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and its fine-tune, in which an adapter was merged into one matrix."""
    made = tmp_path_factory.mktemp("first")
    generator = np.random.default_rng(1)
    before = {name: generator.standard_normal((256, 128)).astype(np.float32) / 9 for name in ("f32", "bf16", "f16")}
    update = generator.standard_normal((256, 4)) @ generator.standard_normal((4, 128)) / 99
    after = {name: (values * 0.999 + (update if name == "bf16" else 1e-4)) for name, values in before.items()}
    kinds = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}
    for name, tensors in (("a", before), ("b", after)):
        save_file({key: values.astype(kinds[key]) for key, values in tensors.items()}, made / f"{name}.safetensors")
    return made


@pytest.mark.parametrize("pipeline", ["lossless:effort=max", "int8", "int4/exact", "base/exact"])
def test_no_compiler_in_python(pipeline: str, folder: Path) -> None:
    arguments = [str(folder), pipeline, str(pipeline.startswith("base"))]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{pipeline != 'int8'} ['{pipeline}'] []\n"
