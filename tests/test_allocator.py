"""Memory that is used again: seen by the pages that a process had to be given, and by what it holds."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest


def _child(first: str) -> dict[str, Any]:
    """Blocks of 256 MiB made and dropped eight times in a process of its own, after `first`."""
    code = f"""
        import json, resource, threading
        from pathlib import Path
        from napari_segsuite.allocator import give_back, keep_memory

        def held():
            return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))

        def work():
            for _ in range(8):
                b"1" * 2**28

        is_set = {first}
        thread = threading.Thread(target=work)  # as a run's network is in a thread
        thread.start()
        thread.join()
        kept = held()
        give_back()
        print(json.dumps([is_set, resource.getrusage(resource.RUSAGE_SELF).ru_minflt, kept, held()]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=True)
    return dict(zip(("is_set", "faults", "kept", "left"), json.loads(done.stdout), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is set up")
def test_memory_is_used_again_and_goes_back_when_nothing_is_computed() -> None:
    ours, usual = _child("keep_memory()"), _child("False")
    if not ours["is_set"]:
        pytest.skip("the C library is not glibc")
    assert ours["faults"] < usual["faults"] / 4
    assert ours["kept"] - ours["left"] > 200 * 2**20
    assert ours["left"] < 150 * 2**20
