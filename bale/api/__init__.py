"""The functions behind the verbs, one file each: paths in, files and reports out."""

from bale.api.advising import advise
from bale.api.comparing import compare
from bale.api.compressing import compress
from bale.api.decompressing import decompress, decompress_to
from bale.api.inputs import choices
from bale.api.inspecting import inspect
from bale.api.opening import open  # noqa: A004  (bale.open reads well)
from bale.api.planning import plan
from bale.api.results import Checked, Decompressed, Planned
from bale.api.verifying import verify
from bale.planning.budget import make_budget as budget

__all__ = [
    "Checked",
    "Decompressed",
    "Planned",
    "advise",
    "budget",
    "choices",
    "compare",
    "compress",
    "decompress",
    "decompress_to",
    "inspect",
    "open",
    "plan",
    "verify",
]
