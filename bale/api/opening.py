"""`open`: an archive as a mapping of names to arrays."""

from __future__ import annotations

from pathlib import Path

from bale.api.inputs import PathLike, is_first, open_archives, readable
from bale.engine.reading.archives import Archives


def open(  # noqa: A001  (bale.open reads well)
    archive: PathLike, *, base: PathLike | None = None, layers: int | None = None, threads: int | None = None
) -> Archives:
    """Open an archive as a mapping of names to numpy arrays, each decoded when asked for.

    `base` and `layers` are as for `decompress`. Its method `parts` gives the factors of a tensor without multiplying
    them.

    Examples
    --------
    >>> with bale.open("model.safetensors.bale") as tensors:  # doctest: +SKIP
    ...     weight = tensors["encoder.layer.0.output.dense.weight"]
    ...     u, vh = tensors.parts("encoder.layer.0.output.dense.weight").values()  # compressed with svd
    """
    return open_archives(Path(archive), threads, readable(base), is_first(layers))
