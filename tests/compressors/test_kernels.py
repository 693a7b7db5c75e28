from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

READ_ONLY = """
from numba.core import caching

def refuse(self):
    asked.append(self)
    raise OSError(30, "Read-only file system")

asked = []
caching._CacheLocator.ensure_cache_path = refuse
import numpy as np
from bale.compressors.kernels.axes import flip

words = np.arange(4, dtype=np.uint8)
flip(words, 2, 0, np.array([0, 128], np.uint8))
print(words.tolist(), bool(asked), flip.stats.cache_path)
"""


def test_they_run_on_a_read_only_installation_without_a_home() -> None:
    """Every place where compiled code could be kept refuses: compiled anew, and nothing is said."""
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "NUMBA_CACHE_DIR")}
    done = subprocess.run([sys.executable, "-c", READ_ONLY], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 130, 131] True None\n"


FLIP = """
import numpy as np
from bale.compressors.kernels.axes import flip

words = np.arange(4, dtype=np.uint8)
flip(words, 2, 0, np.array([0, 128], np.uint8))
print(words.tolist(), sum(flip.stats.cache_hits.values()))
"""


def flipped(folder: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", FLIP], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 1
    path.write_bytes(data)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    assert flipped(folder) == "[0, 1, 130, 131] 0"
    return folder


@pytest.mark.parametrize(("kind", "damage"), [("nbc", cut), ("nbc", one_bit), ("nbi", emptied), ("nbi", cut)])
def test_compiled_code_that_was_damaged_is_made_again(
    kept: Path, tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    """Without a word, and so that the next run finds it."""
    folder = shutil.copytree(kept, tmp_path / "kept")
    files = [path for path in folder.rglob(f"*.{kind}") if "flip" in path.name]
    assert files
    for path in files:
        damage(path)
    assert flipped(folder) == "[0, 1, 130, 131] 0"
    assert flipped(folder) == "[0, 1, 130, 131] 1"


def test_compiled_code_that_cannot_be_kept_runs(kept: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept, tmp_path / "kept")
    for path in folder.rglob("*.nbc"):
        a_folder(path)
    assert flipped(folder) == "[0, 1, 130, 131] 0"


OTHER_NUMBA = """
import numba
from numba.core import caching

honest = caching.FunctionCache.__init__

def moved(self, function):
    honest(self, function)
    del self._impl

{change}
import numpy as np
from bale.compressors.kernels.axes import flip

words = np.arange(4, dtype=np.uint8)
flip(words, 2, 0, np.array([0, 128], np.uint8))
print(words.tolist())
"""


@pytest.mark.parametrize(
    "change",
    [
        "del caching.IndexDataCacheFile",
        "caching.FunctionCache = type('Other', (), {})",
        "caching.FunctionCache.__init__ = moved",
        "caching.FunctionCache.__init__ = lambda self: None",
        "del caching.IndexDataCacheFile._dump",
    ],
)
def test_a_numba_that_is_another_one_inside_compiles_all_the_same(tmp_path: Path, change: str) -> None:
    """Its private names serve to keep what was compiled: nothing else may depend on them."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_NUMBA.format(change=change)], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 130, 131]\n"


def test_a_loop_is_found_again_whatever_loops_it_calls() -> None:
    """As numba has it, a loop that calls others is compiled anew in every process."""
    from bale.compressors.kernels.cache import _made_of
    from bale.compressors.kernels.trellis import search_of

    def made(*code: int) -> object:
        search: Any = search_of.__wrapped__(*code)
        return _made_of(search.py_func)

    assert made(8, 5, 3, 4) == made(8, 5, 3, 4)
    assert len({repr(made(*code)) for code in ((8, 5, 3, 4), (8, 5, 3, 5), (16, 5, 3, 4), (8, 7, 3, 4))}) == 4
