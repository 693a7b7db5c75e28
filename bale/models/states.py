"""The reference's last hidden states, on disk: 2.3 kB a token where logits would take 98."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from bale.errors import OutputError
from bale.io.storage.files import reason

if TYPE_CHECKING:
    import torch


class States:
    """Rows of FP32 that are written once, and read again in the same pieces; a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="bale-", buffering=0)  # noqa: SIM115
        self._width = 0

    def write(self, rows: torch.Tensor) -> None:
        """Append rows; `OutputError` where they find no room."""
        self._width = rows.shape[1]
        rest = _bytes(rows.contiguous())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as problem:
            where = tempfile.gettempdir()
            raise OutputError(
                f"cannot write hidden states in {where}: {reason(problem)}", "name another place by TMPDIR"
            ) from None

    def rewind(self) -> None:
        """Read from the start again."""
        self._file.seek(0)

    def read(self, count: int) -> torch.Tensor:
        """The next rows."""
        import torch

        rows = torch.empty(count, self._width)
        rest = _bytes(rows)
        while rest:
            got = self._file.readinto(rest)
            if not got:
                raise OutputError("hidden states in a temporary file have been cut short", "run it again")
            rest = rest[got:]
        return rows

    def __enter__(self) -> States:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()


def _bytes(rows: torch.Tensor) -> memoryview:
    found: Any = rows.numpy()
    return memoryview(found).cast("B")
