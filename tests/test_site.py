"""The documentation site: every page is in its navigation, generated parts are current, and the build is strict."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mask_lightning.__main__ import commands
from mask_lightning.settings.base import describe_options
from mask_lightning.settings.train import TrainSettings

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("mkdocs", reason="needs the extra `docs`")


@pytest.fixture(scope="module")
def hook() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/hooks/reference.py"))


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r": (\S+\.md)$", text, re.MULTILINE)), "add the new page to nav in mkdocs.yml"


def test_tables_of_results_are_current() -> None:
    tool = runpy.run_path(str(ROOT / "docs/hooks/results.py"))
    for page in tool["PAGES"]:
        text = page.read_text(encoding="utf-8")
        assert text == tool["renew"](text), f"{page.name} is out of date; run: python docs/hooks/results.py"


def test_the_picture_of_the_packages_is_current() -> None:
    tool = runpy.run_path(str(ROOT / "docs/hooks/diagram.py"))
    assert tool["PICTURE"].read_text() == tool["svg"](), "out of date; run: python docs/hooks/diagram.py"


def test_reference_lists_every_command_and_option(hook: dict[str, Any]) -> None:
    page = hook["commands_page"]()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(commands())
    options = hook["options_page"]()
    for name, description in describe_options(TrainSettings).items():
        assert f"| `{name}` |" in options
        assert description.replace("|", r"\|") in options


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("seed", "| `seed` | integer in [0, 2^32) | `0` |"),
        ("data.val_fraction", "| `data.val_fraction` | number in [0, 1) | `0.2` |"),
        ("trainer.devices", "| `trainer.devices` | integer >= 1 or `auto` | `1` |"),
        ("data.root", "| `data.root` | path or null | `null` |"),
        ("inspect", "| `inspect` | true or false | `false` |"),
        ("optim.lr", "| `optim.lr` | number in (0, 100] or `auto` | `0.002` |"),
        ("data.balanced_by", "| `data.balanced_by` | list of text or null | `null` |"),
    ],
)
def test_options_show_type_range_and_default(hook: dict[str, Any], name: str, row: str) -> None:
    assert row in hook["options_page"]()


def test_links_between_the_top_and_the_docs_are_adapted(hook: dict[str, Any]) -> None:
    page = type("Page", (), {})()
    page.file = type("File", (), {"src_uri": "contributing.md"})()
    adapt = hook["on_page_markdown"]
    found = adapt("[a](docs/architecture.md#glossary) [l](LICENSE) [u](https://x.org)", page=page, config={}, files=[])
    assert found == "[a](architecture.md#glossary) l [u](https://x.org)"
    page.file.src_uri = "training.md"
    assert adapt("[c](../CONTRIBUTING.md#recipes) [d](data.md)", page=page, config={}, files=[]) == (
        "[c](contributing.md#recipes) [d](data.md)"
    )


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_asks_no_other_host(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?://[^"]+)', text)
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preload|preconnect)"[^>]* href="(https?://[^"]+)', text)
        assert not loaded, f"{page.name} loads {loaded[0]}"


def test_workflow_builds_the_site() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["lint"]["steps"]
    assert {"run": "make docs"} in steps
