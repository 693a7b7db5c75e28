"""What statistics of inputs are worth: `python -m bench.quality.weighted` prints a section of docs/quality.md."""

from __future__ import annotations

import random
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bale
from bench.common import Limit, page, parser, table, workspace
from bench.documents import documents_of
from bench.methods import Array
from bench.quality.judged import Judged
from bench.quality.models import MiniLM

SENTENCES = 1000
HELPS = Limit(0.75)
MATRICES = r"re:encoder\..*(query|key|value|dense)\.weight"
TEXT = (
    "Statistics of what {title}'s matrices are multiplied with (`bale stats`), from "
    f"{SENTENCES:,} sentences of the docstrings of Python's library; the model is judged on those of torch. They are "
    "mean squares of each input, or with `--covariance` mean products of two. The divergence is {divergence}, without "
    "statistics and with them (`--stats`), at the same size; *times* is that with the best statistics over that "
    "without. With `svd` only the {matrices} matrices of the encoder are coded, and the others exact; else all that "
    "`-p` takes, embeddings included, which have no statistics. `int` takes no covariances."
)


@dataclass(frozen=True)
class Case:
    """A pipeline for all that `-p` takes, or for the encoder's matrices alone."""

    pipeline: str
    limit: Limit | None = None
    matrices: bool = False


CASES = (
    Case("trellis:bits=3", HELPS),
    Case("trellis:bits=4", HELPS),
    Case("trellis:bits=3,balance=column"),
    Case("trellis:bits=4,balance=column"),
    Case("int:bits=3,group=64,clip=mse"),
    Case("int:bits=4,group=64,clip=mse"),
    Case("svd:ratio=0.5", HELPS, matrices=True),
    Case("svd:ratio=0.4", HELPS, matrices=True),
    Case("svd:ratio=0.3", HELPS, matrices=True),
    Case("svd:ratio=0.5+trellis:bits=6", matrices=True),
)


def main() -> None:
    options = parser(__doc__, models=True)
    options.add_argument("--share", type=float, default=1, help="of all questions, to try the bench")
    given = options.parse_args()
    print(section(MiniLM(given.models, given.share)))


def section(model: Judged) -> str:
    """A table of all pipelines, without and with statistics."""
    rows, matrices = [], 0
    with workspace(in_memory=1e9) as work:
        kinds = {"without": None, **statistics(model.path.parent, work)}
        for case in CASES:
            found, bits = [], 0.0
            for stats in kinds.values():
                values, bits = coded(model.path, case, stats, work)
                found.append(model.score(values).divergence)
                matrices = len(values) if case.matrices else matrices
            if case.pipeline.startswith("int"):
                found.pop()  # the same as by mean squares
            times = min(found[1:]) / found[0]
            figures = [*(f"{each:.3g}" for each in found), *["-"] * (len(kinds) - len(found)), f"{times:.2f}"]
            rows.append([f"`{case.pipeline}`", f"{bits:.2f}", *figures, case.limit.cell(times) if case.limit else ""])
    head = ("pipeline", "b/w", *kinds, "times", "limit")
    text = TEXT.format(title=model.title, divergence=model.divergence, matrices=matrices)
    return page(text, table(head, rows))


def coded(source: Path, case: Case, stats: Path | None, work: Path) -> tuple[Mapping[str, Array], float]:
    """The tensors that came back other than they were, and bits for each of their weights."""
    archive = work / "coded.bale"
    rules = {"rules": [f"{MATRICES}={case.pipeline}"]} if case.matrices else {"pipeline": case.pipeline}
    report = bale.compress(source, archive, stats=stats, force=True, **rules).to_json()
    rows = [row for row in report["tensors"] if row["relative_error"]]
    with bale.open(archive) as opened:
        values = {row["name"]: np.asarray(opened[row["name"]]) for row in rows}
    stored = sum(row["stored_bytes"] for row in rows)
    return values, 8 * stored / sum(each.size for each in values.values())


def statistics(model: Path, work: Path) -> dict[str, Path]:
    """Files of mean squares, and of covariances beside them."""
    text = work / "text.txt"
    text.write_text("\n".join(sentences()), encoding="utf-8")
    found = {"mean squares": work / "squares.safetensors", "covariances": work / "covariances.safetensors"}
    for path, more in zip(found.values(), ([], ["--covariance"]), strict=True):
        command = [sys.executable, "-m", "bale", "stats", model, "--text", text, "-o", path, *more]
        subprocess.run(list(map(str, command)), check=True)
    return found


def sentences() -> list[str]:
    """Of the docstrings of Python's library, which no model here is judged on."""
    root = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(
        (*root.glob("*.py"), *root.glob("[a-k]*/*.py")), key=lambda path: path.relative_to(root).as_posix()
    )
    found = [sentence for document in documents_of(modules) for sentence in document]
    return random.Random(0).sample(found, SENTENCES)


if __name__ == "__main__":
    main()
