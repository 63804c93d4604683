"""Open napari with an image and its labels."""

from __future__ import annotations

from pathlib import Path

from napari_segsuite.errors import MissingExtra


def show(image: Path, labels: Path) -> None:
    """Show both in a new viewer, with outlines, and wait until it is closed.

    Raises
    ------
    MissingExtra
        napari is not installed.
    """
    try:
        import napari
    except ImportError as error:
        raise MissingExtra("showing results in napari", "gui") from error
    viewer = napari.Viewer(title="Segsuite")
    viewer.open(str(image), plugin="napari-segsuite")
    viewer.open(str(labels), plugin="napari-segsuite", layer_type="labels")
    napari.run()
