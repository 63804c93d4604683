"""Is it done already? What a result says about the job that made it, compared with the job that is wished now.

A result tells by its plan's fingerprint (model, options, geometry) and by the identity of the file that was read. Equal in both:
finished, or, where a process was killed between two files of one result, to be finished. Anything else is somebody's work, and not touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.source import check_unchanged as check_unchanged
from napari_segsuite.engine.source import identity as identity
from napari_segsuite.engine.work import INPUT as INPUT
from napari_segsuite.engine.work import difference
from napari_segsuite.errors import OutputError, SegsuiteError
from napari_segsuite.io import label_store, read_segmentation
from napari_segsuite.io.place import exists


def is_finished(paths: Mapping[str, Path], plan: Plan, source: Mapping[str, Any]) -> bool | None:
    """Find out whether a job's result is there: all of it, a part of it, or (None) nothing.

    Parameters
    ----------
    paths : mapping
        Where the job puts its ``labels`` and, unless they stand alone, ``segments`` and ``run``.
    plan : Plan
    source : mapping
        The `identity` of the input.

    Raises
    ------
    OutputError
        What is there is the result of another job; the difference is named. An unfinished store counts as nothing here: who goes on
        with it finds out whether it is of this job.
    """
    there = [path for path in paths.values() if exists(path) and not label_store.is_unfinished(path)]
    if not there:
        return None
    told = _told(paths)
    if told.get("fingerprint") == plan.fingerprint and told.get(INPUT) == source:
        return len(there) == len(paths)
    do = "Choose another output, or allow it to be replaced (--overwrite)."
    raise OutputError(f"result {there[0]} is there already, made {_difference(told, plan, source)}", do=do)


def _told(paths: Mapping[str, Path]) -> Mapping[str, Any]:
    """The provenance of a result: from the record beside it, else from the labels themselves."""
    record = paths.get("run")
    try:
        told = json.loads(record.read_text(encoding="utf-8")) if record and record.is_file() else read_segmentation(paths["labels"]).provenance
    except (OSError, ValueError, SegsuiteError):
        return {}
    return told if isinstance(told, Mapping) else {}


def _difference(told: Mapping[str, Any], plan: Plan, source: Mapping[str, Any]) -> str:
    before = told.get("plan")
    if not isinstance(before, Mapping) or not isinstance(before.get("options"), Mapping):
        return "by something else"
    return difference(before, told.get(INPUT) or {}, plan, source)
