"""Plain safetensors files: decoded values, for everything that reads them."""

from __future__ import annotations

from typing import ClassVar

from bale.export.model import Stored
from bale.export.target import Carried, Target


class Safetensors(Target):
    """All tensors as `decompress` gives them, in safetensors files with an index, whatever the source was."""

    name: ClassVar[str] = "safetensors"
    summary: ClassVar[str] = "decoded values, for all that reads safetensors files"
    needs_config: ClassVar[bool] = False

    def carry(self, tensor: Stored, lossy_scales: bool) -> Carried | None:
        """Nothing but values."""
        return None
