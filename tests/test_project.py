"""The files around the package: hooks, workflows, constraints and citation agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mask_lightning

ROOT = Path(__file__).resolve().parent.parent
YAML_FILES = sorted([ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff", *ROOT.glob(".github/**/*.yml")])
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
RECIPES = ("loss", "augmentation", "optimizer", "metric", "head", "command")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_files_parse(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_pre_commit_runs_the_checks_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lint = [line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in recipe[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"].removesuffix(" --force-exclude") for hook in config["repos"][0]["hooks"]]
    assert hooks == lint


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_and_have_least_privileges(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert uses
    for action, version in uses:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"expected a commit hash, found {action}"
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", version), f"expected the version of {action} as a comment"
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    assert all("permissions" not in job and "timeout-minutes" in job for job in workflow["jobs"].values())


def test_constraints_fulfil_pyproject(project: dict[str, Any]) -> None:
    lines = [line for line in (ROOT / ".ci/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines), "a package is pinned twice"
    extras = re.search(r"^EXTRAS := \.\[(.*)\]$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras is not None
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras[1].split(",") for line in optional[extra])]
    for requirement in map(Requirement, wanted):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in .ci/constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_versions_agree(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == mask_lightning.__version__ == citation["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_changelog_has_the_sections_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def test_contributing_has_a_place_for_each_recipe() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## Recipes")[1]
    assert re.findall(r"<!-- recipe: (\w+) -->", text) == list(RECIPES)
    assert text.count("<!-- end recipe -->") == len(RECIPES)
