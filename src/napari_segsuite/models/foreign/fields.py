"""YAML and JSON from strangers: bounded in size, in depth and in what aliases stand for; and fields that say where they stand."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from napari_segsuite.errors import MissingExtra, ModelError

AGAIN = "Get it again; it is not whole."
LARGEST, ALIASES, VALUES, DEPTH = 2**20, 100, 100_000, 50
ARGUMENTS, LARGEST_NUMBER = 1000, 2**14


class Fields:
    """A mapping out of a description, which says where it stands when something in it is wrong."""

    def __init__(self, path: Path, where: str, told: Any) -> None:
        self.path, self.where, self.told = path, where, told
        if not isinstance(told, dict):
            raise ModelError(f"{path}{f', field {where!r}' if where else ''}: found {short(told)}", "a mapping of fields")

    def name(self, key: str) -> str:
        return ".".join(part for part in (self.where, key) if part)

    def wrong(self, key: str, found: Any, needed: str) -> NoReturn:
        raise ModelError(f"{self.path}, field {self.name(key)!r}: found {short(found)}", needed)

    def value(self, key: str, default: Any = ...) -> Any:
        found = self.told.get(key, default)
        if found is ...:
            self.wrong(key, None, "a value")
        return found

    def text(self, key: str, default: Any = ...) -> str:
        found = self.value(key, default)
        if not isinstance(found, str):
            self.wrong(key, found, "a text")
        return found

    def number(self, key: str, default: Any = ...) -> float:
        return self.as_number(key, self.value(key, default))

    def as_number(self, key: str, found: Any) -> float:
        try:  # YAML 1.1 takes 1e-06 for a text
            if isinstance(found, (bool, list, dict)):
                raise ValueError
            return float(found)
        except (TypeError, ValueError):
            self.wrong(key, found, "a number")

    def finite(self, key: str, found: Any) -> float:
        number = self.as_number(key, found)
        if not math.isfinite(number):
            self.wrong(key, found, "a number that is not infinite")
        return number

    def whole(self, key: str, found: Any, least: int = 0) -> int:
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= 2**31:
            self.wrong(key, found, f"a whole number from {least} on")
        return int(found)

    def below(self, key: str) -> Fields:
        return Fields(self.path, self.name(key), self.value(key))

    def only(self, known: Collection[str]) -> None:
        """Refuse fields that are not known."""
        for key in self.told:
            if key not in known:
                self.wrong(str(key), self.told[key], f"no such field: only {', '.join(sorted(known))}")

    def numbers(self, key: str, count: int, default: Any = ...) -> tuple[float, ...]:
        """A list of so many numbers."""
        found = self.value(key, default)
        if not isinstance(found, (list, tuple)) or len(found) != count:
            self.wrong(key, found, f"{count} numbers")
        return tuple(self.finite(key, n) for n in found)

    def many(self, key: str, default: Any = ...) -> list[Fields]:
        found = self.value(key, default)
        if not isinstance(found, list) or (default is ... and not found) or len(found) > 1000:
            self.wrong(key, found, "a list")
        return [Fields(self.path, f"{self.name(key)}[{n}]", item) for n, item in enumerate(found)]


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file of bounded size, with a bounded number of aliases, which could stand for an endless text."""
    try:
        import yaml
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("reading descriptions in YAML", "imports") from error
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ModelError(f"{path} has more than {LARGEST} bytes", "a description of at most 1 MB")
        depth = aliases = 0
        for event in yaml.parse(data, yaml.SafeLoader):
            depth += isinstance(event, yaml.events.CollectionStartEvent) - isinstance(event, yaml.events.CollectionEndEvent)
            aliases += isinstance(event, yaml.events.AliasEvent)
            if depth > DEPTH or aliases > ALIASES:
                raise ModelError(f"{path} has more than {ALIASES} aliases, or values {DEPTH} deep", "a plain description")
        told = yaml.safe_load(data)
    except (yaml.scanner.ScannerError, yaml.parser.ParserError) as error:
        raise _broken(error, data, path) from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} cannot be read: {text}", "a YAML file of plain values") from error
    _bounded(told, path)
    return told


def _broken(error: Any, data: bytes, path: Path) -> ModelError:
    """What to say of text that is no YAML: where it stops being that."""
    mark, problem = error.problem_mark, error.problem
    if mark.index >= len(data.decode("utf-8", "replace").rstrip()):
        return ModelError(f"{path} ends too early, in line {mark.line + 1}: {problem}", "a YAML file of plain values", AGAIN)
    return ModelError(f"{path} cannot be read at line {mark.line + 1}, column {mark.column + 1}: {problem}", "a YAML file of plain values")


def read_json(path: Path) -> Any:
    """The values in a JSON file of bounded size.

    Raises
    ------
    ModelError
        It is not there, too large, or no JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ModelError(f"{path} has more than {LARGEST} bytes", "a description of at most 1 MB")
        told = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "a JSON file") from error
    _bounded(told, path)
    return told


def check_plain(told: Fields, key: str, value: Any) -> None:
    """Refuse what could not be an argument of a network: only texts, bounded numbers, and lists and mappings of them.

    Raises
    ------
    ModelError
        Names the field.
    """
    left, todo = ARGUMENTS, [value]
    while todo:
        item = todo.pop()
        left -= 1
        if isinstance(item, (list, tuple, dict)):
            todo += list(item.values()) if isinstance(item, dict) else item
        known = item is None or isinstance(item, (bool, list, tuple, dict)) or (isinstance(item, str) and len(item) <= 100)
        if left < 0 or not (known or (isinstance(item, (int, float)) and math.isfinite(item) and abs(item) <= LARGEST_NUMBER)):
            told.wrong(key, item, f"at most {ARGUMENTS} values: texts, yes or no, or numbers up to {LARGEST_NUMBER}")


def _bounded(told: Any, path: Path) -> None:
    """Refuse values that aliases blow up, or that lie too deep."""
    left, todo = VALUES, [(told, 0)]
    while todo:
        value, depth = todo.pop()
        left -= 1
        if left < 0 or depth > DEPTH:
            raise ModelError(f"{path} stands for more than {VALUES} values, or for values {DEPTH} deep", "a plain description")
        below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
        todo += [(item, depth + 1) for item in below]


def short(value: Any) -> str:
    text = repr(value)
    return "nothing" if value is None else text if len(text) <= 120 else text[:117] + "..."


def line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:300]
