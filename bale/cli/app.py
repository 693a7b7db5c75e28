"""The program: verbs put together, errors turned into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

from bale.cli import (
    advise,
    codecs,
    compare,
    completion,
    compress,
    decompress,
    evaluate,
    export,
    inspect,
    plan,
    recipes,
    signals,
    stats,
    verify,
)
from bale.cli.entry import main as main  # where earlier installations look for it
from bale.cli.failures import NO_THREAD, can_start_threads, unexpected
from bale.cli.render import emit, emit_json, error_document, print_error
from bale.cli.verbs import Verbs, usage_error
from bale.errors import BaleError, OutputError, UsageError

app = typer.Typer(
    name="bale",
    cls=Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    compress,
    decompress,
    export,
    plan,
    advise,
    inspect,
    verify,
    compare,
    codecs,
    recipes,
    stats,
    evaluate,
    completion,
):
    app.command(verb.NAME, help=verb.__doc__, short_help=(verb.__doc__ or "").partition("\n")[0])(verb.command)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        emit(f"bale {version('bale')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Bind model checkpoints into small, verifiable archives: every bit back by default, less on request.

    `bale help VERB` explains a verb, `bale codecs` and `bale recipes` say what to choose.

    Exit codes: 0 done, 1 internal error, 2 usage or plan refused, 3 an input missing, not permitted or broken, 4
    archive damaged, 5 a check failed, 6 output not written; 130, 143, 129 ended by SIGINT, SIGTERM, SIGHUP.

    Example: bale compress model.safetensors
    """


def run(arguments: list[str]) -> int:
    """Run the program with these arguments; returns the exit code."""
    code = 0
    signals.answer(False)
    if sys.stderr is None:  # closed: its number must not go to a file, nor what goes there to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        print_error(OutputError("cannot write to stdout: it is closed", "give it a place, like > /dev/null"))
        return OutputError.code
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit does not fail again
        if not code and not isinstance(problem, BrokenPipeError):  # a reader that has had enough needs no message
            print_error(OutputError(f"cannot write to stdout: {problem.strerror}"))
        code = code or OutputError.code
    except KeyboardInterrupt:
        code = signals.exit_code()
    if code == signals.INTERRUPTED and not can_start_threads():  # OpenBLAS, which had no thread, interrupts us
        return _fail(NO_THREAD, "--json" in arguments)
    return signals.report_signal(arguments) if code in signals.CODES else code


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if completion.VARIABLE in os.environ:
        completion.prepare()
    try:
        code = app(arguments or ["--help"], prog_name="bale", standalone_mode=False)
        if not arguments:
            return UsageError.code
        if code == signals.INTERRUPTED:  # typer's word for any KeyboardInterrupt
            return signals.exit_code()
        return code if isinstance(code, int) else 0
    except BaleError as error:
        return _fail(error, as_json)
    except TyperException as problem:
        return _fail(usage_error(problem, arguments), as_json)
    except SystemExit as ended:  # typer's exit when its reader has had enough, and when it has completed a word
        return OutputError.code if ended.code else 0
    except Exception as problem:
        if isinstance(problem, OSError) and _is_typers(problem):
            raise  # typer could not print its help, which `run` says
        return _fail(unexpected(problem), as_json)


def _is_typers(problem: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    return str(frame.f_globals["__name__"]).startswith("typer.")


def _fail(error: BaleError, as_json: bool) -> int:
    print_error(error)
    if as_json:
        with suppress(OutputError, BrokenPipeError):
            emit_json(error_document(error))
    return error.code
