"""The program: verbs put together, errors turned into exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from bale.cli import codecs, compare, compress, decompress, inspect, plan, stats, verify
from bale.cli.render import emit, emit_json, error_document, print_error
from bale.errors import BaleError, OutputError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    name="bale",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (compress, decompress, plan, inspect, verify, compare, codecs, stats):
    app.command(verb.NAME, help=verb.__doc__, short_help=(verb.__doc__ or "").partition("\n")[0])(verb.command)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        emit(f"bale {version('bale')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Bind model checkpoints into small, verifiable archives: every bit back by default, less on request.

    Exit codes: 0 done, 1 internal error, 2 usage or plan refused, 3 source broken, 4 archive damaged, 5 a check failed,
    6 output not written, 130 interrupted.

    Example: bale compress model.safetensors
    """


def main() -> NoReturn:
    """Run the program and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be in no encoding that the terminal has
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        os._exit(code)  # without waiting for the workers; files have been removed
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the program with these arguments; returns the exit code."""
    code = 0
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
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("bale: interrupted", file=sys.stderr, flush=True)
    return code


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
        if not arguments:
            return UsageError.code
        return code if isinstance(code, int) else 0
    except BaleError as error:
        return _fail(error, as_json)
    except TyperException as problem:
        return _fail(UsageError(_message(problem), "see bale --help"), as_json)
    except SystemExit:  # typer's answer to a reader that has had enough
        return OutputError.code
    except MemoryError:
        return _fail(BaleError("there is not enough memory", "use fewer threads with -T, or a larger machine"), as_json)
    except Exception as problem:  # a bug: the traceback is for us
        if isinstance(problem, OSError) and _is_typers(problem):
            raise  # typer could not print its help, which `run` says
        traceback.print_exc()
        return _fail(BaleError(f"internal error ({type(problem).__name__}: {problem})", "please report it"), as_json)


def _is_typers(problem: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    return str(frame.f_globals["__name__"]).startswith("typer.")


def _fail(error: BaleError, as_json: bool) -> int:
    print_error(error)
    if as_json:
        with suppress(OutputError, BrokenPipeError):
            emit_json(error_document(error))
    return error.code


def _message(problem: TyperException) -> str:
    format_message = getattr(problem, "format_message", None)
    text = format_message() if callable(format_message) else str(problem)
    return " ".join(text.split()).rstrip(".")
