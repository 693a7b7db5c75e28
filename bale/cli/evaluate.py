"""Measure how well a model still works with the weights of archives.

The model runs on lines of text, by transformers and torch (pip install '.[transformers]' in a clone), in FP32, first
with the weights of REFERENCE, then with those of each CANDIDATE. Nothing is fetched, and no code from the folder is
run.

Figures are the KL divergence of what candidates predict from what the reference does, in nats a token, the perplexity,
and top-1, how often both find the same token likeliest; of encoders 1 - cosine of the mean states of a line. Intervals
of 95 % come from drawing lines. --fail-if goes by their worse ends.

Example: bale eval model model/model.safetensors model-4.bale --text lines.txt --fail-if 'kl > 0.02'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bale.cli import options
from bale.cli.given import to_path
from bale.cli.render import Printer, error_document, figure, many, plain, print_error, prose, table, terminal_width
from bale.io.names import own_name

if TYPE_CHECKING:
    from bale.models.evaluate import Evaluated, Evaluation
    from bale.models.intervals import Estimate

NAME = "eval"
_WEIGHTS = "A checkpoint, an archive, or a folder of either."


def command(
    model: Annotated[
        Path,
        typer.Argument(
            parser=to_path, metavar="MODEL_DIR", help="The folder of a transformers model: its config and tokenizer."
        ),
    ],
    reference: Annotated[Path, typer.Argument(parser=to_path, metavar="REFERENCE", help=_WEIGHTS)],
    candidates: Annotated[
        list[Path], typer.Argument(parser=to_path, metavar="CANDIDATE...", help="The same, to be measured.")
    ],
    text: Annotated[
        Path,
        typer.Option(
            "--text", parser=to_path, metavar="FILE", help="What the model is to see, a text in each line. Required."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="causal|masked|encoder", help="What the model is for. [default: as its config says]"
        ),
    ] = None,
    tokens: Annotated[
        int,
        typer.Option(
            "--tokens",
            min=1,
            metavar="N",
            help="Tokens of the first lines that are run at the most. [default: 10000]",
            show_default=False,
        ),
    ] = 10_000,
    length: Annotated[
        int,
        typer.Option(
            "--length", min=1, metavar="N", help="Tokens of a line at the most. [default: 256]", show_default=False
        ),
    ] = 256,
    fail_if: options.FailIf = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure them."""
    from bale.models.evaluate import evaluate
    from bale.models.folder import check_model
    from bale.models.lines import read_lines
    from bale.models.tasks import task_of
    from bale.report.gates.gate import Gates, GatesFailed
    from bale.report.gates.vocabularies import EVAL, EVAL_ENCODER

    check_model(model)
    chosen = task_of(task, model).name
    gates = Gates.parse(fail_if or (), EVAL_ENCODER if chosen == "encoder" else EVAL)
    printer = Printer(json, quiet)
    lines = read_lines(text, tokens)  # each has one token at least
    with printer.progress(own_name(model), tokens * (1 + len(candidates))) as progress:
        done = evaluate(
            model,
            reference,
            candidates,
            lines,
            task=chosen,
            tokens=tokens,
            length=length,
            threads=threads,
            progress=progress,
        )
    document, failed = done.to_json(), None
    try:
        gates.passed(lambda: document, None, "figures are the worse ends of intervals of 95 %")
    except GatesFailed as problem:
        failed = problem
        document |= error_document(problem)
    printer.result(document, _lines(done, terminal_width()))
    if failed is None:
        return 0
    print_error(failed)
    return failed.code


def _lines(done: Evaluation, width: int | None) -> list[str]:
    encoder = done.task == "encoder"
    head = ("weights", "1 - cosine", "95 %") if encoder else ("weights", "KL", "95 %", "perplexity", "top-1")
    rows = [_cells(each, done.main, encoder) for each in (done.reference, *done.candidates)]
    needed = max((each for each in done.tokens_needed if each is not None), default=None)
    run = f"{many(done.lines, 'line')}, {many(done.tokens, 'token')}"
    said = [f"{done.model}, FP32: {run}" + ("" if encoder else f", {many(done.predicted, 'prediction')}")]
    if done.lines < _FEW:
        said.append("so few lines make intervals that are too narrow, or none")
    elif needed is not None:
        what = "1 - cosine" if encoder else "KL"
        said.append(f"{what} within 5 % takes about --tokens {_rounded(needed)}")
    if not encoder:
        said.append("perplexity can fall though a model got worse: judge by KL")
    return [
        *table(head, rows, width=width, spare=("perplexity",)),
        *(line for each in said for line in prose(each, width)),
    ]


_FEW = 10  # lines


def _cells(each: Evaluated, main: str, encoder: bool) -> list[str]:
    found = each.figures
    cells = [plain(each.name), *_interval(found.get(main))]
    if not encoder:
        same = found.get("top1")
        cells += [figure(found["perplexity"].value), "-" if same is None else f"{100 * same.value:.1f} %"]
    return cells


def _interval(estimate: Estimate | None) -> tuple[str, str]:
    """A figure and its interval."""
    if estimate is None:
        return "-", "-"
    value = figure(estimate.value, ".3g")
    return value, "-" if estimate.low is None else f"{estimate.low:.3g}..{estimate.high:.3g}"


def _rounded(tokens: int) -> str:
    """A number of tokens to two digits, upwards."""
    unit = 10 ** max(0, len(str(tokens)) - 2)
    return str(-(-tokens // unit) * unit)
