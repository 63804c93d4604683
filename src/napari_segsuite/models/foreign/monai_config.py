"""The configuration files of MONAI bundles, read as data: names that refer to values are followed, Python code in them is never run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.fields import Fields, read_json, read_yaml, short

WRITE_OUT = "Write the value itself into the file, in place of what would be computed, or say it with the flags of `segsuite models add`."
VALUES, DEPTH = 10_000, 30
SPECIAL = ("_target_", "_desc_", "_disabled_", "_requires_", "_mode_")


class Config:
    """A configuration file.

    In such a file, a text that begins with ``$`` is Python code, one with ``@`` refers to another entry (``@a``, ``@a#b``, ``@a::b``), one with
    ``%`` includes another file, and a mapping with ``_target_`` calls what that names (github.com/Project-MONAI/MONAI, monai.bundle).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: dict[str, Any] = Fields(path, "", read_json(path) if path.suffix == ".json" else read_yaml(path)).told
        self.left = VALUES

    def refused(self, where: str, found: Any, needed: str, do: str = WRITE_OUT) -> ModelError:
        return ModelError(f"{self.path}, field {where!r}: found {short(found)}", needed, do)

    def literal(self, where: str, value: Any, depth: int = 0) -> Any:
        """A value with what it refers to in place of the references.

        Raises
        ------
        ModelError
            It is or refers to code, a file, a call or nothing; or it stands for too much.
        """
        self.left -= 1
        if depth > DEPTH or self.left < 0:
            raise self.refused(where, value, f"at most {VALUES} values, {DEPTH} deep", "")
        if isinstance(value, dict):
            if called := [key for key in value if key in SPECIAL]:
                raise self.refused(f"{where}.{called[0]}", value[called[0]], "a plain value, which nothing is called for")
            return {str(key): self.literal(f"{where}.{key}", item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.literal(f"{where}[{n}]", item, depth + 1) for n, item in enumerate(value)]
        if isinstance(value, str) and value.startswith(("$", "%")):
            raise self.refused(where, value, "a value: this is Python code, or another file, which is not run" if value[0] == "$" else "a value")
        return self.literal(where, self.at(value, where), depth + 1) if isinstance(value, str) and value.startswith("@") else value

    def at(self, reference: str, where: str) -> Any:
        """What a text such as ``@a#b`` refers to, as it is written there."""
        found: Any = self.told
        for part in re.split("#|::", reference[1:]):
            inner = found.get(part, ...) if isinstance(found, dict) else ...
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                inner = found[int(part)]
            if inner is ...:
                raise self.refused(where, reference, "a name that is in the file")
            found = inner
        return found

    def followed(self, where: str, depth: int = 0) -> Any:
        """An entry at the top of the file, references followed as long as they are nothing but that."""
        value = self.told.get(where)
        while isinstance(value, str) and value.startswith("@") and depth < DEPTH:
            value, depth = self.at(value, where), depth + 1
        return value

    def call(self, where: str, value: Any, package: str) -> tuple[str, Fields]:
        """The name of what a mapping calls, out of a package of MONAI, and its arguments without references.

        Returns
        -------
        name : str
            Without the package; empty where the call is switched off.
        arguments : Fields
        """
        if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):
            raise self.refused(where, value, "a mapping with _target_, the name of something in MONAI", "")
        for key in ("_requires_", "_mode_"):
            if key in value:
                raise self.refused(f"{where}.{key}", value[key], "no such entry", "")
        match = re.fullmatch(rf"(?:{re.escape(package)}\.(?:\w+\.)*)?(\w+)", value["_target_"])
        if not match:
            raise self.refused(f"{where}._target_", value["_target_"], f"a name out of {package}", "Nothing else is imported.")
        if self.literal(f"{where}._disabled_", value.get("_disabled_", False)) not in (False, "false", "False"):
            return "", Fields(self.path, where, {})
        return match.group(1), Fields(self.path, where, {key: item for key, item in value.items() if key not in SPECIAL})
