"""What can go wrong, said so that a user knows what to do next."""

from __future__ import annotations


class SegsuiteError(Exception):
    """An error whose text is written for the person who reads it.

    Parameters
    ----------
    found : str
        What was met, with its name and numbers.
    needed : str, optional
        What would have been right.
    do : str, optional
        The next step, as an instruction.

    Examples
    --------
    >>> print(SegsuiteError("image 'cells' has 3 channels", "1 channel", "Choose one with channels=(0,)"))
    Image 'cells' has 3 channels. Needed: 1 channel. Choose one with channels=(0,).
    """

    def __init__(self, found: str, needed: str = "", do: str = "") -> None:
        self.found, self.needed, self.do = found, needed, do
        parts = [found, f"Needed: {needed}" if needed else "", do]
        super().__init__(" ".join(_sentence(part) for part in parts if part))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Errors travel back from worker processes by pickle, which would otherwise call __init__ with the whole text.
        return type(self), (self.found, self.needed, self.do)


class InputError(SegsuiteError):
    """An image, file or array that cannot be used as it is."""


class OptionError(SegsuiteError):
    """A wish that cannot be met for this image and model."""


class ModelError(SegsuiteError):
    """A model that is unknown, damaged or does not fit."""


class OutputError(SegsuiteError):
    """A result that could not be written whole; nothing half-written is left behind under its final name."""


class MissingExtra(SegsuiteError):
    """An optional dependency is not installed.

    Parameters
    ----------
    feature : str
        What the user wanted.
    extra : str
        The extra of this package that brings it.
    """

    def __init__(self, feature: str, extra: str = "", *_: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(
            f"{feature} needs an optional package that is not installed",
            do=f'Install it with: pip install "napari-segsuite[{extra}]"',
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.feature, self.extra)


class Cancelled(SegsuiteError):
    """The run was stopped by its user."""

    def __init__(self, *_: str) -> None:
        super().__init__("the run was cancelled")


def _sentence(text: str) -> str:
    # Only a word gets a capital: a path or the name of an option would be another one with it.
    start = text[0].upper() if text.split(maxsplit=1)[0].rstrip(",:;").isalpha() else text[0]
    return start + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
