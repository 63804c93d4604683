"""Who computes: this process, workers on this machine, or a dask cluster."""

from __future__ import annotations

import concurrent.futures as cf
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from napari_segsuite.allocator import keep_memory
from napari_segsuite.errors import MissingExtra, OptionError

THREADS = 3
"""Threads of this process where nothing else is wished: one reads, one computes maps, one decodes or writes."""
START = "120s"
"""How long workers may take to start; on a busy machine, importing alone takes longer than the 30 s that dask waits."""


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Complain about wishes that cannot be met.

    Raises
    ------
    OptionError
    """
    if workers is not None and scheduler is not None:
        raise OptionError("both --workers and --scheduler are given", "one of them")
    if workers is not None and not 1 <= workers <= 4096:
        raise OptionError(f"--workers is {workers}", "a whole number from 1 to 4096")


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[tuple[cf.Executor | None, int]]:
    """Lend an executor for a run, and say how many tasks it works on at once.

    Parameters
    ----------
    workers : int, optional
        Processes to be started on this machine (a dask ``LocalCluster``), each with one thread and one copy of the model.
    scheduler : str, optional
        Address of a dask scheduler, such as ``tcp://node1:8786``.

    Yields
    ------
    executor : Executor or None
        None stands for threads of this process.
    at_once : int

    Raises
    ------
    MissingExtra
        dask.distributed is not installed.
    OptionError
        Both are wished, or the scheduler does not answer.
    """
    check_workers(workers, scheduler)
    if workers is None and scheduler is None:
        yield None, THREADS
        return
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingExtra("computing with several workers", "cluster") from error
    for name in ("distributed", "distributed.nanny", "distributed.core", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a worker that died is told of by what its task says
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, TimeoutError, ValueError) as error:
            raise OptionError(f"no dask scheduler answers at {scheduler!r}", "an address such as tcp://node1:8786") from error
        with client, client.get_executor(pure=False) as pool:
            yield pool, max(1, sum(client.nthreads().values()))
        return
    # Memory is bounded by the chunk; a limit per worker would only kill what would have fitted.
    with (
        dask.config.set({"distributed.comm.timeouts.connect": START}),
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
        client.get_executor(pure=False) as pool,
    ):
        client.run(keep_memory)
        yield pool, workers or 1
