"""What a user has set for this plugin under File > Preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "napari-segsuite"


@dataclass(frozen=True)
class Preferences:
    """The properties that napari.yaml declares under ``configurations``, with the same defaults."""

    model: str = "nuclei"
    keep_warm_minutes: float = 10.0


def preferences() -> Preferences:
    """Ask napari; before 0.9 it keeps no settings for plugins, and the defaults hold."""
    try:
        from napari import settings
        from napari.settings import get_plugin_settings

        # Asking for the first time makes napari read every plugin's manifest again, which takes longer than opening the dock.
        where = getattr(settings, "_CFG_PATH", "")
        if where and not Path(where).with_name(f"{NAME}.yaml").is_file():
            return Preferences()
        stored = get_plugin_settings(NAME).segment
        return Preferences(model=str(stored.model), keep_warm_minutes=float(stored.keep_warm_minutes))
    except (ImportError, KeyError, AttributeError, TypeError, ValueError):
        return Preferences()
