"""The size limit of lossy coding, or of a transform: less than exact coding takes."""

from __future__ import annotations

from bale.compressors.pipeline import Pipeline
from bale.errors import Refused


def refuse_growth(pipeline: Pipeline, stored: int, lossless_bytes: int, about: str = "") -> None:
    """Raise `Refused` for a unit that takes no less than exact coding would, unless the user insists.

    Parameters
    ----------
    stored, lossless_bytes : int
        Bytes of the unit, and of the same with exact coding.
    about : str
        A word before figures that are estimates.
    """
    if not (pipeline.transforms or (pipeline.rest and pipeline.rest.transforms)) or pipeline.forced:
        return
    if stored >= lossless_bytes:
        sizes = f"{about}{stored} bytes, exact coding takes at most {about}{lossless_bytes}"
        raise Refused(f"{pipeline} would take {sizes}", note="grows")
