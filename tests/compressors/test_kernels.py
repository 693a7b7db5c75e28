from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.soak import few

WITHOUT_C = """
import sys

sys.modules["bale.compressors.kernels.native._loops"] = None
"""

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
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_C + READ_ONLY], capture_output=True, text=True, env=environment
    )
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
    done = subprocess.run([sys.executable, "-c", WITHOUT_C + FLIP], capture_output=True, text=True, env=environment)
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


@pytest.mark.parametrize(("kind", "damage"), few([("nbc", one_bit), ("nbi", cut), ("nbc", cut), ("nbi", emptied)], 2))
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
    few(
        [
            "del caching.IndexDataCacheFile",
            "caching.FunctionCache.__init__ = moved",
            "caching.FunctionCache = type('Other', (), {})",
            "caching.FunctionCache.__init__ = lambda self: None",
            "del caching.IndexDataCacheFile._dump",
        ],
        2,
    ),
)
def test_a_numba_that_is_another_one_inside_compiles_all_the_same(tmp_path: Path, change: str) -> None:
    """Its private names serve to keep what was compiled: nothing else may depend on them."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_C + OTHER_NUMBA.format(change=change)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 130, 131]\n"


def test_a_loop_is_found_again_whatever_loops_it_calls() -> None:
    """As numba has it, a loop that calls others is compiled anew in every process."""
    from bale.compressors.kernels.cache import _made_of
    from bale.compressors.kernels.trellis import _search_by_numba

    def made(*code: int) -> object:
        search: Any = _search_by_numba.__wrapped__(*code, False)
        return _made_of(getattr(search, "py_func", search))

    assert made(8, 5, 3, 4) == made(8, 5, 3, 4)
    assert len({repr(made(*code)) for code in ((8, 5, 3, 4), (8, 5, 3, 5), (16, 5, 3, 4), (8, 7, 3, 4))}) == 4


def function_of(text: str, **around: object) -> Any:
    """The function `f` of a source text, with these names around it."""
    scope: dict[str, Any] = dict(around)
    exec(text, scope)
    return scope["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 5", "def f(x): return x + 6"),
        ("def f(x): return abs(x)", "def f(x): return len(x)"),
        ("def f(x, y=1): return x + y", "def f(x, y=2): return x + y"),
        ("def f(x, *, y=1): return x + y", "def f(x, *, y=2): return x + y"),
        ("def f(x): return (lambda y: y + 1)(x)", "def f(x): return (lambda y: y + 2)(x)"),
        ("def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}"),
        ("N = 1\ndef f(x): return x + N", "N = 2\ndef f(x): return x + N"),
        ("def g(x): return x + 1\ndef f(x): return g(x)", "def g(x): return x + 2\ndef f(x): return g(x)"),
        ("def m(n): return lambda x: x + n\nf = m(1)", "def m(n): return lambda x: x + n\nf = m(2)"),
        ("def f(x): return 1", "def f(x): return 1.0"),
    ],
)
def test_a_loop_that_differs_anywhere_has_another_key(one: str, other: str) -> None:
    from bale.compressors.kernels.cache import _made_of

    assert _made_of(function_of(one)) == _made_of(function_of(one))
    assert _made_of(function_of(one)) != _made_of(function_of(other))


def test_a_callee_of_another_file_is_part_of_the_key() -> None:
    from bale.compressors.kernels import compiled
    from bale.compressors.kernels.cache import _made_of

    callees = [compiled(function_of(f"def f(x): return x + {number}")) for number in (1, 1, 2)]
    keys = [_made_of(function_of("def f(x): return g(x)", g=callee)) for callee in callees]
    assert keys[0] == keys[1] != keys[2]


def test_a_key_is_of_no_process() -> None:
    """A set of texts has another order in each process; what has no text of its own is not kept at all."""
    from bale.compressors.kernels.cache import _fixed, _made_of
    from bale.compressors.kernels.trellis import _search_by_numba

    search: Any = _search_by_numba.__wrapped__(8, 5, 3, 4, False)
    assert " at 0x" not in repr(_made_of(getattr(search, "py_func", search)))
    assert _fixed(frozenset("ba"), ()) == ("frozenset", repr(("str", repr("a"))), repr(("str", repr("b"))))
    with pytest.raises(TypeError, match="same in every process"):
        _made_of(function_of("def f(x): return g", g=object()))
