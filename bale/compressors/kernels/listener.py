"""Passes numba's word on that a loop which was not kept is being compiled."""

from __future__ import annotations

from typing import Any

from numba.core import event

from bale.compressors.compiling import begins


class Listener(event.Listener):
    """Hears of every compilation."""

    def on_start(self, event: Any) -> None:
        """Called before it begins."""
        begins()

    def on_end(self, event: Any) -> None:
        """Called when it has ended."""


event.register("numba:compile", Listener())
