"""Signals that ask the program to end. Each unwinds it as Ctrl-C does, so that unfinished files are removed."""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # `typing` is not imported before signals are minded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
INTERRUPTED = 128 + signal.SIGINT
HINT = "what was half made has been removed; run it again"  # whole files of a folder stay, and the next run goes on
CODES = {128 + number for number in WORDS}
_GRACE = 2.0  # seconds of cleaning up that no further signal disturbs

_received: tuple[int, float] | None = None  # the signal that counts, and when it came
_answered = False  # whether stdout has its JSON document


class Ended(KeyboardInterrupt):
    """A signal asked the program to end; code that cleans up knows it by its base class."""


def mind() -> None:
    """Take over the signals that end the program, save those that it was started with as ignored (nohup, &)."""
    for number in WORDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    global _received
    now = time.monotonic()
    if _received is None or now - _received[1] > _GRACE:
        _received = number, now
        raise Ended


def exit_at_once(code: int) -> None:
    """Let signals end the program at once, with this exit code: all has been done, and the interpreter ends."""
    for number in WORDS:
        if signal.getsignal(number) == _end:
            signal.signal(number, lambda number, frame: os._exit(code))


def exit_code() -> int:
    """The exit code of a program that a signal ended; of Ctrl-C where nobody minds signals."""
    return 128 + (signal.SIGINT if _received is None else _received[0])


def answer(given: bool) -> None:
    """Remember whether stdout has its JSON document: it never gets a second one."""
    global _answered
    _answered = given


def report_signal(arguments: Sequence[str]) -> int:
    """Say which signal it was, in JSON too where that is asked for; returns the exit code."""
    from contextlib import suppress

    code = exit_code()
    word = WORDS[signal.Signals(code - 128)]
    with suppress(OSError, ValueError):  # a terminal that has hung up takes nothing any more
        print(f"bale: {word}", file=sys.stderr or open(os.devnull, "w"), flush=True)  # noqa: SIM115
    if "--json" in arguments and sys.stdout is not None and not _answered:
        import json

        error = {"code": code, "kind": "interrupted", "message": word, "hint": HINT}
        with suppress(OSError, ValueError):
            print(json.dumps({"error": error}, indent=1), flush=True)
    return code
