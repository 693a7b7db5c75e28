"""Runs that are killed, before or after a chosen call: what `kill -9` and the power switch leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def killed(work: Callable[[], Any], calls: Sequence[tuple[ModuleType, str]], at: int, after: bool) -> bool:
    """Do work in a fork that is killed before, or after, the at'th of these calls; False when it has fewer of them."""
    pid = os.fork()
    if not pid:
        try:
            _arm(calls, at, after)
            work()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _arm(calls: Sequence[tuple[ModuleType, str]], at: int, after: bool) -> None:
    count = 0

    def arm(module: ModuleType, name: str) -> None:
        honest = getattr(module, name)

        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            mine = count == at
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return honest(*arguments, **more)
            finally:
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, counting)

    for module, name in calls:
        arm(module, name)
