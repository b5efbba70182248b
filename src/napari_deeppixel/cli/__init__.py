"""The command line ``napari-deeppixel``; `parser` says what can be typed."""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from napari_deeppixel.cli.console import EXIT_BAD_INPUT, EXIT_INTERRUPTED, complain, say_json
from napari_deeppixel.cli.parser import build_parser
from napari_deeppixel.core.errors import DeepPixelError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for bad input, or 130 when interrupted.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and on a wrong command line.
    """
    _survive_odd_names()
    arguments = build_parser().parse_args(argv)
    try:
        # only now, so that --help does not wait for torch
        command = import_module(f"napari_deeppixel.cli.{arguments.command}")
        code: int = command.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `... | head` has read enough; without this the interpreter complains when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DeepPixelError, OSError) as error:
        complain(str(error))
        if arguments.json:
            say_json({"error": str(error)})
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    return code


def _survive_odd_names() -> None:
    # a file's name may hold what the terminal's encoding does not; a long run must not end on it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
