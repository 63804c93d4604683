"""The documentation says what the code does.

In the pages, a block of kind ``pycon`` is run as a doctest; in a block of kind ``console`` the commands after ``$`` are run, and what they
print is compared with the lines below them (``...`` stands for anything). The blocks of a page share one empty folder and one namespace, in
their order. Commands in blocks of kind ``sh`` are not run, but the command line must understand them; blocks of kind ``python`` must compile,
and what they import must exist.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import os
import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import napari_segsuite
from napari_segsuite import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = runpy.run_path(str(DOCS / "make_reference.py"))
LATER: set[str] = set()
"""Pictures that are made last, from real windows."""

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path, *kinds: str) -> list[tuple[str, str]]:
    """Kind and text of the code blocks of a page that were written by hand."""
    text = REFERENCE["MADE"].sub("", page.read_text(encoding="utf-8"))
    return [(kind, body) for kind, body in BLOCK.findall(text) if kind in kinds]


def pages_with(*kinds: str) -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if blocks(page, *kinds)]


def commands(body: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


class Shell:
    """As much of a shell as the pages need: ``segsuite``, ``ls FOLDER``, ``head -n N FILE`` and ``echo $?``."""

    def __init__(self) -> None:
        self.code = 0

    def run(self, command: str) -> str:
        """Run a command; what it prints on either stream."""
        name, *rest = shlex.split(command)
        return {"segsuite": self._segsuite, "ls": self._ls, "head": self._head, "echo": self._echo}[name](rest)

    def _segsuite(self, arguments: list[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            self.code = cli.main(arguments)
        return re.sub(r"\\+", "/", printed.getvalue())  # paths, in JSON too, as they are elsewhere

    def _ls(self, arguments: list[str]) -> str:
        return "".join(f"{name}\n" for name in sorted(os.listdir(*arguments)) if not name.startswith("."))

    def _head(self, arguments: list[str]) -> str:
        _, lines, path = arguments
        return "".join(Path(path).read_text(encoding="utf-8").splitlines(keepends=True)[: int(lines)])

    def _echo(self, arguments: list[str]) -> str:
        assert arguments == ["$?"]
        return f"{self.code}\n"


def untimed(text: str) -> str:
    """The text without the seconds that a run took."""
    return re.sub(r"\bin \d+\.\d s\b", "in # s", re.sub(r'"seconds": [\d.]+', '"seconds": #', text))


@pytest.mark.parametrize("page", pages_with("pycon", "console"))
def test_page_shows_what_happens(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell, names = Shell(), dict[str, Any]()
    for number, (kind, body) in enumerate(blocks(page, "pycon", "console"), start=1):
        if kind == "pycon":
            names = run_python(body, names, f"{page.name}, block {number}")
            continue
        for command, wanted in commands(body):
            printed = shell.run(command)
            same = doctest.OutputChecker().check_output(untimed(wanted), untimed(printed), FLAGS)
            assert same, f"{page.name}: $ {command}\nprinted\n{printed}\nand the page says\n{wanted}"


def run_python(body: str, names: dict[str, Any], where: str) -> dict[str, Any]:
    """Run a doctest; the names it leaves."""
    example = doctest.DocTestParser().get_doctest(body, names, where, None, 0)
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(example, out=told.write, clear_globs=False)
    assert not runner.failures, told.getvalue()
    return example.globs


@pytest.mark.parametrize("page", pages_with("sh", "bash", "console"))
def test_commands_are_understood(page: Path) -> None:
    found = [line.removeprefix("$ ") for _, body in blocks(page, "sh", "bash", "console") for line in body.splitlines()]
    calls = [part.strip() for line in found for part in re.split(r"&&|\|", line) if part.strip().startswith("segsuite ")]
    for call in calls:
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()) as told:
            cli._parser().parse_args(shlex.split(call, comments=True)[1:])
        assert not told.getvalue(), f"{call}: {told.getvalue()}"


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_names_exist(page: Path) -> None:
    for _, body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("napari_segsuite"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    for link in links:
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target.name in LATER, f"{page.name} links to {link}"
        if heading:
            assert heading in headings(target), f"{page.name} links to {link}"


def headings(page: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    found = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_pictures_are_small() -> None:
    large = {path.name: path.stat().st_size for path in DOCS.rglob("*.png") if path.name not in LATER and path.stat().st_size > 300_000}
    assert large == {}


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=lambda page: page.name)
def test_reference_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert REFERENCE["fill"](text) == text, "run: python docs/make_reference.py"


def test_every_public_name_is_in_the_reference() -> None:
    page = DOCS / "reference" / "python.md"
    missing = set(napari_segsuite.__all__) - {"__version__"} - set(re.findall(r"^## (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert missing == set()


def test_every_command_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    below: Callable[[Any], dict[str, Any]] = REFERENCE["subcommands"]
    names = [f"{name} {more}".strip() for name, parser in below(cli._parser()).items() for more in below(parser) or [""]]
    assert {"segment", "evaluate", "demo", "models list"} <= set(names)
    assert [name for name in names if f"## segsuite {name}\n" not in page or f": flags {name} -->" not in page] == []


def test_every_field_of_the_public_values_is_explained() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)`", page))
    for kind in (napari_segsuite.Image, napari_segsuite.Segmentation):
        assert set(kind.__dataclass_fields__) <= explained


@pytest.mark.parametrize("page", ["bad-inputs.md", "compatibility.md"])
def test_tests_that_a_page_names_are_there(page: str) -> None:
    told = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", told)
    assert len(named) > 8
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
