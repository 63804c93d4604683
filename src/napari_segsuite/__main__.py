"""``python -m napari_segsuite`` is the command ``segsuite``."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; it can be stopped from the first moment on, and it runs without standard streams."""
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started us, as in `segsuite ... >&-`
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        from napari_segsuite.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("segsuite: stopped before anything was done\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
