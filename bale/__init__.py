"""Checkpoint compression: lossless by default, quantized or low-rank on request.

The functions stand behind the verbs of the command line: `compress`, `decompress`, `plan`, `inspect`, `verify`,
`compare` and `advise`; `budget` makes what `compress` and `plan` take for a limit, `open` gives the tensors of an
archive as a mapping, and `bale.torch` has what needs torch. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import would take longer than all else that an interrupt may meet here
if TYPE_CHECKING:
    from typing import Any

    from bale.api import advise, budget, compare, compress, decompress, inspect, open, plan, verify  # noqa: A004

__all__ = ["advise", "budget", "compare", "compress", "decompress", "inspect", "open", "plan", "verify"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from bale import api

        return getattr(api, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("bale")
    raise AttributeError(f"module 'bale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
