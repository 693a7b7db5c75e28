"""The peers that bale is measured against, in venvs of their own: made when they are missing or lack a package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import PYTHON, ROOT


@dataclass(frozen=True)
class Venv:
    """A venv by its folder, what pip installs into it in one step after the other, and what is asked for then.

    The steps keep pip from changing a version once it is there.
    """

    folder: Path
    steps: Sequence[Sequence[str]]
    modules: Sequence[str]

    def python(self) -> Path:
        """Its python, once everything is installed."""
        python = self.folder / "bin" / "python"
        if not self._complete(python):
            print(f"making {self.folder}", file=sys.stderr, flush=True)
            subprocess.run([PYTHON, "-m", "venv", "--clear", self.folder], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            for step in self.steps:
                subprocess.run([*pip, *step], check=True)
        return python

    def _complete(self, python: Path) -> bool:
        code = f"from importlib.util import find_spec; assert all(map(find_spec, {list(self.modules)}))"
        return python.exists() and not subprocess.run([python, "-c", code], capture_output=True).returncode


def call(python: Path, module: str, *arguments: str | Path, **environment: str) -> str:
    """What a module of this package prints, run in a venv of peers, where bale is not installed."""
    command = [str(python), "-m", module, *map(str, arguments)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=given, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{module} {' '.join(command[3:])} ended with {done.returncode}")
    return done.stdout


def versions(python: Path, packages: Sequence[str]) -> str:
    """The packages of a venv with their versions, for a text."""
    code = (
        "from importlib.metadata import version\n"
        f"print(', '.join(f'{{name}} {{version(name)}}' for name in {list(packages)}))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


_LOSSLESS = ("zipnn", "openzl", "zstandard", "blosc2", "numpy", "numba", "safetensors", "torch")
_QUANTIZERS = ("gguf", "pywhispercpp", "bitsandbytes", "hqq", "nncodec", "torchao")
_FORMATS = ("safetensors", "ml_dtypes", "joblib", "h5py", "keras", "tensorflow", "onnx", "gguf", "flax", "torch")
_TORCH = "torch==2.13.0"


def lossless(folder: Path = ROOT / ".venv-peers") -> Venv:
    """ZipNN, OpenZL, zstd and blosc2, and what bale's codecs want."""
    return Venv(folder, ([_TORCH], [*_LOSSLESS[:-1], _TORCH]), _LOSSLESS)


def quantizers(folder: Path = ROOT / ".venv-peers-quant") -> Venv:
    """Quantizers of other projects; pywhispercpp is there for the ggml library inside it."""
    return Venv(folder, ([_TORCH], [*_QUANTIZERS, "safetensors", _TORCH]), _QUANTIZERS)


def formats(folder: Path = ROOT / ".venv-formats") -> Venv:
    """The libraries that write and load the formats of checkpoints."""
    packages = [name.replace("tensorflow", "tensorflow-cpu") for name in _FORMATS[:-1]]
    return Venv(folder, ([_TORCH], [*packages, _TORCH]), _FORMATS)
