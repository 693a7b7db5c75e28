from __future__ import annotations

import os
import subprocess
import sys

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
