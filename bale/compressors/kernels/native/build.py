"""Builds the loops in C as `_loops`, an extension of the stable ABI.

Run by the build of the package, and as a script after a change of the C files; the package asks it for the digest only.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ["-O3", "-std=c11", "-g0", "-Wall", "-Wextra", "-Wno-psabi"]
FLAGS += ["-fno-fast-math", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
"""Never -ffast-math, whatever CFLAGS say: what floats round to is part of the format."""


def sources() -> list[Path]:
    """The C files, in a fixed order."""
    return sorted(HERE.glob("*.c"))


def digest() -> str:
    """SHA-256 of all that the extension is made of, which it holds too."""
    found = hashlib.sha256()
    for path in (*sorted(HERE.glob("*.h")), *sources()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def declarations() -> str:
    """The declarations of ``kernels.h``, which cffi reads."""
    return re.sub(r"^#.*$", "", (HERE / "kernels.h").read_text(), flags=re.MULTILINE)


def build() -> Path:
    """Compile the extension, and put it beside the C files; returns its path."""
    import shutil
    from tempfile import TemporaryDirectory

    from cffi import FFI

    for old in HERE.glob("_loops*.so"):  # where this build fails, none is better than one of other sources
        old.unlink()
    ffi = FFI()
    ffi.cdef(declarations() + "\nchar *const k_digest;\n")
    ffi.set_source(
        "_loops",
        f'#include "common.h"\nstatic char *const k_digest = "{digest()}";\n',
        sources=[str(path) for path in sources()],
        include_dirs=[str(HERE)],
        extra_compile_args=FLAGS,
        py_limited_api=True,
    )
    with TemporaryDirectory() as folder:
        made = Path(ffi.compile(tmpdir=folder))
        target = HERE / made.name
        beside = target.with_name(f"{target.name}.new")  # a process may be running the one that is there
        shutil.copyfile(made, beside)
        beside.replace(target)
    return target


if __name__ == "__main__":
    build()
