"""The warm child process: no Qt in it, no second start of the program that it belongs to, and nothing of it outlives anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from napari_segsuite.engine.schedule import Pool, Task
from napari_segsuite.errors import InputError
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer.child import Child, ChildDied

GUI = ("napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "vispy", "magicgui")
ROOTS = "sorted({name.partition('.')[0] for name in __import__('sys').modules})"

# What a program does that has a dock open: starts the child, asks what is loaded in it, and says so once.
PROGRAM = f"""
import qtpy
print("started")
from napari_segsuite.viewer import child
child.NEEDED = ("napari_segsuite.engine.chunk",)
warm = child.Child()
warm.warm().result(90)
with warm.executor() as pool:
    print(*pool.submit(eval, {ROOTS!r}).result(60))
"""

# Announces a result of 1000 bytes, and dies before the first of them.
TEAR = """
import os, signal, struct, sys
frame = sys._getframe()
while "result_queue" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 1000))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A child that loads next to nothing ahead of time."""
    monkeypatch.setattr(child_module, "NEEDED", ("json",))
    child = Child()
    yield child
    child.close()


def until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_it_loads_torch_ahead_and_never_qt() -> None:
    child = Child()
    try:
        assert child.warm().result(120) == child.pid
        with child.executor() as pool:
            loaded = set(pool.submit(eval, ROOTS).result(60))
        assert "torch" in loaded
        assert loaded & set(GUI) == set()
    finally:
        child.close()


def test_main_is_as_it_was_after_spawning(child: Child) -> None:
    main = sys.modules["__main__"]
    before = {name: getattr(main, name, None) for name in ("__spec__", "__file__")}
    child.warm().result(60)
    assert {name: getattr(main, name, None) for name in before} == before


@pytest.mark.parametrize("way", ["script without a guard", "module", "console script"])
def test_the_program_is_not_started_a_second_time(tmp_path: Path, way: str) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(PROGRAM)
    (tmp_path / "program" / "inner.py").write_text(PROGRAM)
    (tmp_path / "launch").write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport qtpy\nimport program.inner\n")
    (tmp_path / "script.py").write_text(PROGRAM)
    commands = {"script without a guard": ["script.py"], "module": ["-m", "program"], "console script": ["launch"]}
    done = subprocess.run([sys.executable, *commands[way]], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    started, loaded = done.stdout.splitlines()
    assert started == "started"
    assert "napari_segsuite" in loaded.split()
    assert set(loaded.split()) & {*GUI, "program"} == set()


def test_killing_is_at_once_and_a_new_one_gets_warm(child: Child) -> None:
    first = child.warm().result(60)
    with child.executor() as pool:
        sleeping = pool.submit(time.sleep, 60)
        assert until(sleeping.running)
        began = time.monotonic()
        child.kill()
        with pytest.raises(BrokenProcessPool):
            sleeping.result(5)
        assert time.monotonic() - began < 5  # the task would have slept for a minute
    assert until(lambda: not alive(first))
    assert until(lambda: child.pid is None)  # another thread may be fetching its exit code
    second = child.warm().result(60)
    assert second != first
    with child.executor() as pool:
        assert pool.submit(abs, -3).result(30) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the pool's own thread dies of it, which is what this is about
def test_a_run_whose_child_is_killed_ends_although_nobody_answers_what_was_cancelled(child: Child) -> None:
    child.warm().result(60)
    with child.executor() as executor:
        pool, thread = Pool(executor, most=8), executor._executor_manager_thread  # type: ignore[attr-defined]
        for _ in range(8):
            pool.hand_out(Task("sleep", (), time.sleep, (60,)))
        assert until(lambda: next(iter(pool._out)).running())
        for future in [*pool._out][4:]:
            future.cancel()  # before the pool notices that its process is gone, as it may happen in any order
        child.kill()
        began = time.monotonic()
        pool.stop()
        assert time.monotonic() - began < 10  # the patience is a minute
        thread.join(10)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_dying_in_the_middle_of_a_result_leaves_nothing_waiting(child: Child) -> None:
    child.warm().result(60)
    with child.executor() as pool:
        waiting = pool._executor_manager_thread  # type: ignore[attr-defined]
        torn = pool.submit(exec, TEAR)
        with pytest.raises(BrokenProcessPool):
            torn.result(10)
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_child_that_was_killed_from_outside_is_replaced_and_explained(child: Child) -> None:
    first = child.warm().result(60)
    with child.executor() as pool:
        sleeping = pool.submit(time.sleep, 60)
        assert until(sleeping.running)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool) as caught:
            sleeping.result(10)
    told = child.explain(caught.value)
    assert isinstance(told, ChildDied)
    assert str(told).startswith("The process that computes the segments stopped unexpectedly (signal SIGKILL). Most often the memory ran out:")
    assert child.warm().result(60) != first


def test_how_it_ended_may_be_known_a_little_late(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([None, None, -9])
    monkeypatch.setattr(Child, "exitcode", property(lambda _: next(codes)))
    assert "unexpectedly (signal SIGKILL)." in str(child.explain(BrokenProcessPool()))


def test_explanations_are_in_plain_words(child: Child) -> None:
    ours = InputError("the image is torn")
    assert child.explain(ours) is ours
    assert str(child.explain(MemoryError())).startswith("The memory ran out.")
    assert str(child.explain(ZeroDivisionError("division by zero"))).startswith(
        "The run failed: ZeroDivisionError: division by zero. The details are in the log"
    )


def test_memory_is_given_back_after_a_while_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "NEEDED", ("json",))
    child = Child(idle_s=1.0)
    try:
        first = child.warm().result(60)
        with child.executor() as pool:
            assert pool.submit(time.sleep, 2.0).result(30) is None  # longer than idle_s, but not idle
            assert child.pid == first
        assert until(lambda: child.pid is None)
        assert until(lambda: not alive(first))
        assert child.warm().result(60) != first
    finally:
        child.close()


def test_it_ends_when_it_is_closed_and_does_not_start_again(child: Child) -> None:
    pid = child.warm().result(60)
    child.close()
    assert until(lambda: not alive(pid))
    with pytest.raises(ChildDied, match="has been closed"):
        child.warm()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PROGRAM + "\npool.submit(__import__('time').sleep, 300)\nprint(warm.pid, flush=True)\n__import__('time').sleep(300)\n")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int([parent.stdout.readline() for _ in range(3)][-1])
        assert alive(pid)
        parent.kill()
        parent.wait(10)
    assert until(lambda: not alive(pid))
