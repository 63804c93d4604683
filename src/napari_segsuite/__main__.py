"""``python -m napari_segsuite`` is the command ``segsuite``."""

from __future__ import annotations

import sys

from napari_segsuite.cli import main

if __name__ == "__main__":
    sys.exit(main())
