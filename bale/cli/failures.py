"""Exceptions that nobody expected: what the machine lacks, in one line, and bugs, with their traceback."""

from __future__ import annotations

import os
import sys
import threading
import traceback

from bale.cli.render import harmless
from bale.errors import BaleError, SourceError

_NO_MEMORY = BaleError("there is not enough memory", "use fewer threads with -T, or a larger machine")
NO_THREAD = BaleError(
    "no thread could be started", "allow more processes (ulimit -u) or memory (ulimit -v), or use fewer with -T"
)
_LITTLE = 1 << 26  # bytes
_MEMORY_WORDS = ("not enough memory", "cannot allocate memory", "unable to allocate", "failed to map segment")


def _lacking(problem: BaseException | None) -> BaleError | None:
    """The resource that the machine ran out of, where that caused an exception, or one that it was raised from."""
    while problem is not None:
        said = str(problem).lower()
        if isinstance(problem, MemoryError) or any(words in said for words in _MEMORY_WORDS):
            return _NO_MEMORY
        if isinstance(problem, RuntimeError) and "can't start new thread" in said:
            return NO_THREAD
        problem = problem.__cause__ or problem.__context__
    try:
        bytearray(_LITTLE)
    except MemoryError:  # and so whatever it was that failed, other threads may have met it first
        return _NO_MEMORY
    return None


def _is_somewhere() -> bool:
    """Whether the working folder is there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def can_start_threads() -> bool:
    """Whether the machine gives this process another thread."""
    thread = threading.Thread(target=lambda: None)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def unexpected(problem: Exception) -> BaleError:
    """The error that stands for any other exception; the traceback of a bug is printed, as it is for us."""
    lacking = _lacking(problem)
    if lacking is not None:
        return lacking
    if isinstance(problem, FileNotFoundError) and not _is_somewhere():
        return SourceError("the working folder does not exist any more", "change to another one")
    for line in traceback.format_exception(problem):
        for each in line.splitlines():
            print(harmless(each), file=sys.stderr)
    return BaleError(f"internal error ({type(problem).__name__}: {problem})", "please report it")
