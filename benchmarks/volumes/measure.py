"""Processor time, peak memory, children of our own, and the printing of figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CHILD_S = 7200


def cpu(call: Callable[[], object]) -> float:
    """Processor seconds of all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def fastest(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor seconds of each call; one after the other in every round, so that a busy machine is busy for all."""
    least = dict.fromkeys(calls, float(np.inf))
    for _ in range(rounds):
        for name, call in calls.items():
            least[name] = min(least[name], cpu(call))
    return least


def peak_bytes() -> int:
    """The most memory that this process has had; not that of its parent, which is what `getrusage` may answer."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(**wishes: Any) -> dict[str, Any]:
    """Run ``benchmarks.volumes.child`` in a process of its own; what it told, or ``{"error": ...}``."""
    command = [sys.executable, "-m", "benchmarks.volumes.child", json.dumps(wishes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CHILD_S, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    told: dict[str, Any] = json.loads(lines[-1])
    return told


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="volumes-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def heading(text: str) -> None:
    """Begin a part."""
    say(f"\n# {text}")


def row(name: str, *figures: str) -> None:
    """One line of figures."""
    say(f"{name:44} " + "  ".join(f"{figure:>14}" for figure in figures))


def verdict(name: str, value: float, target: float, unit: str = "") -> None:
    """One line that ends with what is wanted and whether it is so."""
    row(name, f"{value:.3f}{unit}", f"target {target:g}{unit}", "met" if value <= target else "MISSED")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
