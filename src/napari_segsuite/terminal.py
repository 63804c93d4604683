"""What a command says, where: results on standard output, progress and complaints on standard error; and how it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_segsuite.errors import OutputError

SIGNAL = 128
"""A command that was stopped by signal n ends with this plus n; Ctrl-C is signal 2."""


class Shower:
    """Progress on standard error as a bar, or as JSON with the results on standard output, or not at all.

    Parameters
    ----------
    kind : {'bar', 'json', 'none'}
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.drawn = kind, 0

    def progress(self, source: str, done: int, total: int, message: str) -> None:
        """Say how far one input is."""
        if self.kind == "json":
            say(json.dumps({"event": "progress", "input": source, "done": done, "total": total, "message": message}))
        elif self.kind == "bar":
            part = min(max(done / max(total, 1), 0), 1)
            bar = f"[{'#' * int(30 * part):.<30}] {part:4.0%}"
            text = f"{Path(source).name[:30]} {bar} {message}"[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r" + _printable(text, sys.stderr).ljust(self.drawn))
            sys.stderr.flush()
            self.drawn = len(text)

    def line(self, text: str) -> None:
        """Print a result on a line of its own."""
        self.clear()
        say(text)

    def clear(self) -> None:
        """Take the bar away."""
        if self.drawn:
            sys.stderr.write("\r" + " " * self.drawn + "\r")
            sys.stderr.flush()
            self.drawn = 0


@contextmanager
def shower(wish: str) -> Iterator[Shower]:
    """Make a `Shower`; ``auto`` is a bar if standard error is a terminal, else nothing. The bar is gone in the end."""
    show = Shower(("bar" if sys.stderr.isatty() else "none") if wish == "auto" else wish)
    try:
        yield show
    finally:
        show.clear()


@contextmanager
def stoppable() -> Iterator[None]:
    """Make the signal that ends a job (``kill``, a scheduler's time limit) stop it as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """Print a line on standard output, at once.

    Raises
    ------
    OutputError
        It cannot be written.
    SystemExit
        141: nobody reads it any more (``| head``).
    """
    try:
        sys.stdout.write(_printable(text, sys.stdout) + "\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python would fail at it again when it ends
        if isinstance(error, BrokenPipeError):
            raise SystemExit(SIGNAL + 13) from error  # SIGPIPE, which Windows has no name for
        raise OutputError(f"standard output cannot be written to: {error.strerror}", do="What was finished before is complete.") from error


def complain(text: str) -> None:
    """Print on standard error."""
    sys.stderr.write(f"segsuite: {_printable(text, sys.stderr)}\n")


def _printable(text: str, stream: Any) -> str:
    """The text with escapes for what a stream cannot show, such as the bytes of a file name that is no text."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
