"""The tables of segments of several images as one table, in CSV or Parquet: a row per segment, with its image and the name of its class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.annotations.items import Annotated
from napari_segsuite.errors import MissingExtra, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.table import tidy, write_table
from napari_segsuite.types import Segmentation, Table


def lost(segmentation: Segmentation) -> list[str]:
    """What a table does not hold."""
    return ["the labels: which pixels belong to which segment"]


def write_csv(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write one CSV file."""
    write_table(joined(items), out, overwrite=overwrite)


def write_parquet(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write one Parquet file.

    Raises
    ------
    MissingExtra
        pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("writing Parquet", "parquet") from error
    with replacing(out, overwrite=overwrite) as part:
        pyarrow.parquet.write_table(pyarrow.table({name: column.tolist() for name, column in joined(items).items()}), part)


def joined(items: Iterable[Annotated]) -> Table:
    """The rows of all images, with the columns ``image`` and ``class`` before the others.

    Raises
    ------
    OutputError
        One image has other columns than the first.
    """
    tables: list[dict[str, Any]] = []
    for item in items:
        one = item.segmentation
        names = {c.id: c.name for c in one.classes}
        rows = tidy(one.segments)
        kinds = np.array([names.get(int(k), "") for k in rows["class_id"].tolist()], np.str_)
        tables.append({"image": np.full(len(kinds), item.file_name), "class": kinds, **rows})
        if list(tables[0]) != list(tables[-1]):
            raise OutputError(f"the table of {one.name} has other columns than that of the first image", f"{', '.join(tables[0])}")
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
