"""The way in. Whatever takes time to import is imported once an interrupt is expected."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` takes time
if TYPE_CHECKING:
    from typing import NoReturn

_WORKING = {"compress", "decompress", "verify", "compare"}


def main() -> NoReturn:
    """Run the program and exit."""
    arguments = sys.argv[1:]
    try:
        from bale.cli import signals

        signals.mind()
        _prepare(arguments)
        from bale.cli.app import run

        code = run(arguments)
        signals.exit_at_once(code)
        _end(code)
    except KeyboardInterrupt:
        from bale.cli import signals

        code = signals.report_signal(arguments)
    if code in signals.CODES:
        os._exit(code)  # without waiting for the workers; files have been removed
    sys.exit(code)


def _end(code: int) -> None:
    """End the process without taking it apart, which takes a tenth of a second; return where output is not written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            return
    os._exit(code)


def _prepare(arguments: list[str]) -> None:
    import gc
    import io

    gc.set_threshold(50_000, 20, 100)  # what describes tensors lives on: looking through it took a fifth of the time
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be in no encoding that the terminal has
    if "stats" not in arguments[:1]:  # whose torch may have this BLAS, and wants its threads
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # workers share the cores, so BLAS needs no threads
    if arguments[:1] and arguments[0] in _WORKING:
        from bale.engine.run import keep_freed_memory

        keep_freed_memory()
