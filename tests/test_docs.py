"""README and docs/ name only files, commands, options and choices that exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from mask_lightning.__main__ import commands
from mask_lightning.cli.compose import config_dir
from mask_lightning.settings.base import describe_options

ROOT = Path(__file__).resolve().parent.parent
CONF = config_dir()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_LINES = 150

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```(?:\w*)\n(.*?)```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"python -m mask_lightning\.(\w+)")
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
CHOICE = re.compile(rf"(?<![\w.])({'|'.join(GROUPS)})=\"?([a-z][\w./,]*)")
OPTION = re.compile(r"(?<![\w.+])((?:[a-z_]+\.)+[a-z_]+)=(?!=)")
FILE = re.compile(r"(?<![\w/])((?:mask_lightning|conf|tests|\.ci)/[\w/.-]*\w)")
TARGET = re.compile(r"\bmake ([a-z-]+)")


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def code(page: Path) -> str:
    """Return all code blocks and inline code of a page, one per line."""
    return "\n".join(block or inline for block, inline in CODE.findall(page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def choices(group: str) -> set[str]:
    return {path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml")}


@cache
def options() -> set[str]:
    """Return the dotted names of all options: of every command, and of every choice in conf/."""
    return {name for command in commands() for name in options_of(command)} | set(_options_of_choices())


@cache
def options_of(command: str) -> dict[str, str]:
    module = importlib.import_module(f"mask_lightning.{command}")
    call = re.search(rf'run_command\("{command}", (\w+)', Path(str(module.__file__)).read_text(encoding="utf-8"))
    assert call is not None
    return describe_options(getattr(module, call[1]))


def _options_of_choices() -> Iterator[str]:
    for path in CONF.glob("*/*.yaml"):
        text = path.read_text(encoding="utf-8")
        if "@package _global_" not in text:
            yield from (f"{path.parent.name}.{name}" for name in yaml.safe_load(text))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_readme_links_every_page() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{path.name}" for path in PAGES[1:]} <= linked


def test_relative_links_exist(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://", "mailto:", "reference/")):
            continue  # pages of reference/ are made by docs/hooks/reference.py, and `make docs` checks links to them
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links {link}, which does not exist"
        assert target.is_relative_to(ROOT), f"{page.name} links {link} outside of the repository"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links {link}, but {target.name} has no such heading"


def test_named_files_exist(page: Path) -> None:
    for name in FILE.findall(code(page)):
        assert (ROOT / name).exists(), f"{page.name} names {name}, which does not exist"


def test_commands_exist(page: Path) -> None:
    assert set(COMMAND.findall(page.read_text(encoding="utf-8"))) <= set(commands())


def test_choices_exist(page: Path) -> None:
    for group, names in CHOICE.findall(code(page)):
        for name in names.rstrip(".,/").split(","):
            known = choices(group) | {path.rpartition("/")[0] for path in choices(group)}
            assert name in known, f"{page.name}: {group}={name} is not in conf/{group}"


def test_options_exist(page: Path) -> None:
    for name in OPTION.findall(code(page)):
        assert name.startswith("hydra.") or _is_option(name), f"{page.name}: there is no option {name}"


def _is_option(name: str) -> bool:
    return name in options() or name.rpartition(".")[0] == "loss.task_weights"


def test_commands_have_the_options_they_are_shown_with(page: Path) -> None:
    for line in code(page).splitlines():
        command = COMMAND.search(line)
        if command is None:
            continue
        typed = line[command.end() :].split("#")[0]
        known = set(options_of(command[1])) | set(_options_of_choices()) | {*GROUPS}
        for name in re.findall(r"(?<=[\s'])([a-z_][\w.]*)=", typed):
            is_known = name in known or name.startswith(("hydra.", "loss.task_weights."))
            assert is_known, f"{page.name}: {command[1]} has no option {name}"


def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(TARGET.findall(code(page))) <= targets


def test_python_blocks_import_names_that_exist(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mask_lightning"):
                module = importlib.import_module(str(node.module))
                names = {name.name for name in node.names} - {"*"}
                assert names <= set(dir(module)), f"{page.name}: {node.module} has no {names}"
