"""Names of units: OME-Zarr's words are ours, and OME-XML's symbols and ImageJ's spellings are translated to and from them."""

from __future__ import annotations

PIXEL = "pixel"
"""The unit of an axis whose sample size is not known, and of channels."""

_SYMBOLS = {
    "yottameter": "Ym", "zettameter": "Zm", "exameter": "Em", "petameter": "Pm", "terameter": "Tm", "gigameter": "Gm", "megameter": "Mm",
    "kilometer": "km", "hectometer": "hm", "decameter": "dam", "meter": "m", "decimeter": "dm", "centimeter": "cm", "millimeter": "mm",
    "micrometer": "µm", "nanometer": "nm", "picometer": "pm", "femtometer": "fm", "attometer": "am", "zeptometer": "zm", "yoctometer": "ym",
    "angstrom": "Å", "inch": "in", "foot": "ft", "yard": "yd", "mile": "mi", "parsec": "pc",
    "yottasecond": "Ys", "zettasecond": "Zs", "exasecond": "Es", "petasecond": "Ps", "terasecond": "Ts", "gigasecond": "Gs", "megasecond": "Ms",
    "kilosecond": "ks", "hectosecond": "hs", "second": "s", "decisecond": "ds", "centisecond": "cs", "millisecond": "ms", "microsecond": "µs",
    "nanosecond": "ns", "picosecond": "ps", "femtosecond": "fs", "attosecond": "as", "zeptosecond": "zs", "yoctosecond": "ys",
    "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip
_SPELLINGS = {
    "um": "micrometer", "micron": "micrometer", "microns": "micrometer", "micrometre": "micrometer", "us": "microsecond", "usec": "microsecond",
    "msec": "millisecond", "sec": "second", "seconds": "second", "secs": "second", "minutes": "minute", "mins": "minute", "hours": "hour",
    "hr": "hour", "hrs": "hour", "days": "day", "inches": "inch", "angstroms": "angstrom", "mm.": "millimeter", "nanometre": "nanometer",
    "millimetre": "millimeter", "metre": "meter",
}  # fmt: skip
_NAMES = {symbol: name for name, symbol in _SYMBOLS.items()}


def name_of(text: str | None) -> str:
    """Translate what a file calls a unit into its name; ``"pixel"`` for anything that is not a length or a time.

    >>> [name_of(u) for u in ("µm", "micron", "sec", "nanometer", "blah", None)]
    ['micrometer', 'micrometer', 'second', 'nanometer', 'pixel', 'pixel']
    """
    if not text:
        return PIXEL
    # ImageJ escapes the sign, and there are two of it: MICRO SIGN and GREEK SMALL LETTER MU.
    text = text.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ")
    if text in _NAMES:
        return _NAMES[text]
    word = text.lower()
    return word if word in _SYMBOLS else _SPELLINGS.get(word, PIXEL)


def micrometres(metres: float) -> float:
    """A length in micrometres, without the digits that the factor adds.

    >>> micrometres(1e-7), 1e-7 * 1e6
    (0.1, 0.09999999999999999)
    """
    return float(f"{metres * 1e6:.14g}")


def symbol_of(name: str) -> str | None:
    """Give OME-XML's symbol of a unit, or None where it has none.

    >>> symbol_of("micrometer"), symbol_of("pixel")
    ('µm', None)
    """
    return _SYMBOLS.get(name)


def is_named(name: str) -> bool:
    """Whether OME-Zarr knows the unit by this name."""
    return name in _SYMBOLS
