"""Fill the made parts of docs/reference/ from the code: ``python docs/make_reference.py``.

A made part stands between two comments that Markdown does not show; the first names what to make and of what. Everything else on
these pages is written by hand.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import napari_segsuite
from napari_segsuite.cli import _parser
from napari_segsuite.models.families import FAMILIES
from napari_segsuite.models.families import SIZES as OTHERS
from napari_segsuite.training.design import WIDTHS
from napari_segsuite.training.options import SIZES

PAGES = Path(__file__).parent / "reference"
MADE = re.compile(r"(<!-- made by docs/make_reference\.py: (\w+) ?(.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """Make all made parts of a page anew."""
    return MADE.sub(lambda m: f"{m[1]}\n{MAKERS[m[2]](m[3])}\n\n{m[4]}", page)


def options(_: str) -> str:
    """A table of the fields of `Options`."""
    rows = []
    for f in fields(napari_segsuite.Options):
        told = f.metadata
        bounds = f"{told['ge']:g} to {told['le']:g}" if told["ge"] is not None else ""
        kind, default = str(f.type).replace('"', "'"), "" if f.default in (None, ()) else repr(f.default)
        rows.append([code(f.name), code(flag_of(f.name)), code(kind), code(default), told["unit"], bounds, told["help"]])
    return table(["name", "flag", "type", "default", "unit", "bounds", "what it says"], rows)


def flag_of(name: str) -> str:
    """The command line flag of a field of `Options`."""
    return f"--{name.replace('_', '-')}"


def flags(command: str) -> str:
    """A table of what a command takes: ``segment``, ``models show``, ..."""
    return table(["argument", "what it says"], [[code(_written(a)), str(a.help or "").replace("%%", "%")] for a in arguments(command)])


def arguments(command: str) -> list[argparse.Action]:
    """The arguments of a command, without ``--help``."""
    parser: Any = _parser()
    for word in command.split():
        parser = subcommands(parser)[word]
    return [a for a in parser._actions if a.dest != "help" and not isinstance(a, argparse._SubParsersAction)]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser, by name."""
    found = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def networks(_: str) -> str:
    """A table of what ``--net`` takes, by name."""
    rows: dict[str, list[str]] = {name: ["2D, 3D", "", ""] for name in SIZES}
    for (name, dims), size in OTHERS.items():
        axes = f"{rows[name][0]}, {dims}D" if name in rows else f"{dims}D"
        built = ", ".join(f"{key} {value}" for key, value in size.items())
        before = f"{rows[name][2]}; 3D: " if name in rows else ""
        rows[name] = [axes, FAMILIES[name.partition("-")[0]].extra, before + built]
    for name in SIZES:
        rows[name][2] = "; ".join(f"{dims}D: widths {WIDTHS[name, dims]['widths']}, blocks {WIDTHS[name, dims]['blocks']}" for dims in (2, 3))
    return table(["`--net`", "axes", "extra", "built with"], [[code(name), axes, code(extra), built] for name, (axes, extra, built) in rows.items()])


def signature(name: str) -> str:
    """The signature of a public name as Python, one argument per line where it is long."""
    thing = getattr(napari_segsuite, name)
    parts = [_parameter(p, name) for p in inspect.signature(thing).parameters.values()]
    keyword = [k for k, p in enumerate(inspect.signature(thing).parameters.values()) if p.kind is p.KEYWORD_ONLY]
    if keyword:
        parts.insert(keyword[0], "*")
    returns = inspect.signature(thing).return_annotation
    end = f") -> {returns}" if isinstance(returns, str) and returns != "None" else ")"
    line = f"{name}({', '.join(parts)}{end}"
    long = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + end
    return f"```python\n{line if len(line) <= 100 else long}\n```"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def code(text: str) -> str:
    """Text as code, where there is any; a bar would end the cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def _parameter(parameter: inspect.Parameter, owner: str) -> str:
    kind = f": {parameter.annotation}" if parameter.annotation is not parameter.empty else ""
    if parameter.default is parameter.empty:
        return f"{'**' if parameter.kind is parameter.VAR_KEYWORD else ''}{parameter.name}{kind}"
    default = parameter.default
    if repr(default) == "<factory>":  # of a dataclass
        made = {f.name: f.default_factory for f in fields(getattr(napari_segsuite, owner)) if f.default_factory is not MISSING}
        default = made[parameter.name]()
    return f"{parameter.name}{kind} = {default!r}".replace("'", '"')


def _written(action: argparse.Action) -> str:
    """An argument as it is written on the command line."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return " / ".join(action.option_strings)
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    return " ".join([*action.option_strings, value, "..." if action.nargs == "+" else ""]).strip()


MAKERS = {"options": options, "flags": flags, "networks": networks, "signature": signature}


def main() -> int:
    """Write the pages; say which changed."""
    for path in sorted(PAGES.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{path} is new\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
