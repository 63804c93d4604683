"""``python -m napari_segsuite`` is the command ``segsuite``."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


def main() -> int:
    """Run the command line; it can be stopped from the first moment on, and it runs without standard streams."""
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started us, as in `segsuite ... >&-`
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        from napari_segsuite.allocator import keep_memory
        from napari_segsuite.cli import main as run

        keep_memory()

        return _ended(run())
    except KeyboardInterrupt:
        sys.stderr.write("segsuite: stopped before anything was done\n")
        return 130


def _ended(code: int) -> int:
    """After a Ctrl-C, end now: threads may be in the middle of a large tile, and nobody needs their answer."""
    if code > 128 and threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
