"""Compare two checkpoints or archives, tensor by tensor.

Errors take A for the original. They are errors of weights, which do not tell how well a model works.

Example: bale compare model.safetensors model-4.bale --max-error 0.1
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bale.cli import options
from bale.cli.render import Printer, error_document, figure, many, print_error, table
from bale.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from bale.engine.compare import Difference

NAME = "compare"


def command(
    a: Annotated[
        Path, typer.Argument(parser=options.path, metavar="A", help="A checkpoint, an archive, or a folder of either.")
    ],
    b: Annotated[Path, typer.Argument(parser=options.path, metavar="B", help="The same, for comparison.")],
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error", metavar="E", help="Fail (exit 5) when a tensor's relative error is larger; 0: any bit."
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare A and B."""
    from bale import api

    if max_error is not None and not 0 <= max_error < float("inf"):
        raise UsageError(f"--max-error {max_error} is not a relative error", "give a number from 0, like 0.01")
    printer = Printer(json, quiet)
    rows = api.compare(a, b, threads=threads)
    worse = [row for row in rows if max_error is not None and row.exceeds(max_error)]
    equal = sum(row.status == "equal" for row in rows)
    document = {
        "a": str(a),
        "b": str(b),
        "tensors": [row.to_json() for row in rows],
        "summary": {"tensors": len(rows), "equal": equal, "max_error": max_error, "exceeded": len(worse)},
    }
    lines = table(
        ("tensor", "status", "relative error", "SNR dB", "max abs error", "cosine"),
        [
            (
                row.name,
                row.status,
                figure(row.relative_error),
                figure(row.snr_db, ".1f"),
                figure(row.max_abs_error),
                figure(row.cosine, ".6f"),
            )
            for row in rows
            if row.status != "equal"
        ],
        left=2,
    )
    differing = len(rows) - equal
    summary = f"{equal} of {many(len(rows), 'tensor')} equal, bit for bit"
    failure = _failure(worse, f"{max_error:g}") if worse else None
    if failure is not None:
        document |= error_document(failure)
    printer.result(document, [*lines, summary] if differing else [summary])
    if failure is not None:
        print_error(failure)
        return failure.code
    return 0


def _failure(worse: list[Difference], limit: str) -> CheckFailed:
    worst = worse[0]
    found = worst.status if worst.relative_error is None else f"a relative error of {worst.relative_error:.4g}"
    return CheckFailed(f"{many(len(worse), 'tensor')} beyond --max-error {limit}, first {worst.name} ({found})")
