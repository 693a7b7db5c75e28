"""The functions behind the verbs, one file each: paths in, files and reports out."""

from bale.api.comparing import compare
from bale.api.compressing import compress
from bale.api.decompressing import decompress, decompress_to, default_checkpoint
from bale.api.inspecting import inspect
from bale.api.opening import open  # noqa: A004  (bale.open reads well)
from bale.api.planning import plan
from bale.api.results import Checked, Decompressed, Planned
from bale.api.verifying import verify

__all__ = [
    "Checked",
    "Decompressed",
    "Planned",
    "compare",
    "compress",
    "decompress",
    "decompress_to",
    "default_checkpoint",
    "inspect",
    "open",
    "plan",
    "verify",
]
