"""Run one benchmark by its name, or say which there are."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

MODEL_NAMES = {"nuclei3d": "nuclei-3d"}
"""Modules whose benchmark is called like the model that it measures."""


def main() -> int:
    """Import ``benchmarks.NAME`` and call its ``main``."""
    found = [path for path in sorted(Path(__file__).parent.glob("[!_]*")) if path.suffix == ".py" or (path / "__init__.py").is_file()]
    names = {MODEL_NAMES.get(path.stem, path.stem): path.stem for path in found}
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.stderr.write(f"usage: python -m benchmarks NAME [OPTION ...], where NAME is one of {', '.join(names)}\n")
        return 2
    name = sys.argv.pop(1)
    import_module(f"benchmarks.{names[name]}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
