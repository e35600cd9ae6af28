"""The command line: the only place that prints, exits or reads arguments.

Every command is a thin wrapper of a library call that its help names. Data goes to stdout;
progress, skipped photos and errors go to stderr. Exit codes are those of ``placerec.errors``.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType

import click

from placerec.cli.commands import Group
from placerec.cli.demo import demo
from placerec.cli.evaluate import compare, evaluate
from placerec.cli.geotag import geotag
from placerec.cli.index import index
from placerec.cli.models import features, fit, weights
from placerec.cli.output import warn
from placerec.cli.pairs import pairs
from placerec.cli.predictions import predictions
from placerec.cli.query import match, query
from placerec.cli.reproduce import reproduce
from placerec.cli.serve import serve
from placerec.cli.train import adapt, train
from placerec.errors import PlacerecError
from placerec.version import __version__

BUG, NO_ROOM, INTERRUPTED, BROKEN_PIPE, TERMINATED = 1, 6, 130, 141, 143
AGAIN_SECONDS = 0.02  # after which a signal is looked at again that came while a package was loaded


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="placerec %(version)s")
def cli() -> None:
    """Visual place recognition: index a folder of photos, ask where a new one was taken."""


for command in (
    index, query, match, serve, geotag, pairs, evaluate, compare, predictions, reproduce, fit,
    features, train, adapt, weights, demo,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with a documented code; no traceback reaches a user."""
    _open_missing_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _stop)
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal of an old encoding shows \u6771
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run()
    finally:
        # Nothing stops the joining of threads.
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGALRM", signal.SIGTERM)):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _open_missing_streams() -> None:
    """Give the program a stdin, stdout or stderr that was closed when it was started.

    Otherwise the next file that it opens, an index perhaps, would take that place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number, which is this one
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def _run() -> int:
    try:
        # Not cli(): click would turn a closed pipe into exit code 1.
        with cli.make_context("placerec", sys.argv[1:]) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except PlacerecError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(_usage_problem(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _silence_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; check room and permissions", NO_ROOM)
    except MemoryError:
        return _fail("out of memory; use fewer --threads or smaller images", NO_ROOM)
    except Exception as error:
        if os.environ.get("PLACEREC_DEBUG"):
            raise
        kind = type(error).__name__
        return _fail(f"a bug in placerec ({kind}: {error}); PLACEREC_DEBUG=1 shows where", BUG)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    warn(f"error: {message}")
    return code


def _usage_problem(error: click.ClickException) -> str:
    """Return click's message on one line, with the command whose help says more."""
    message = error.format_message().replace("\n\t", " ")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see {context.command_path} --help)" if context else message


def _silence_stdout() -> None:
    """What is still buffered for a closed or full stdout must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(number: int, frame: FrameType | None) -> None:
    """End the program by an exception, so that its files are closed and its threads joined.

    Only the first signal does so. Another one would stop the closing and joining, and a thread that
    is still inside ONNX Runtime when Python ends aborts the process. A package that is being loaded
    is loaded first: an exception in the middle may be lost, or leave a lock of Python's imports
    taken for ever.
    """
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGALRM, lambda _, later: _stop(number, later))
        loads = _loads_a_package(frame)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS if loads else 0)  # 0 stops the timer
        if loads:
            return
        signal.signal(signal.SIGALRM, _do_nothing)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _do_nothing)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(TERMINATED)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Take a signal without an effect; Python complains if SIG_IGN is set while one arrives."""


def _loads_a_package(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
