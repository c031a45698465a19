"""The notebooks in docs/notebooks: pairs of script and notebook without output, which run on tiny photos."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny_runs import TINY_RUN

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
TINY = [*(each for each in TINY_RUN if not each.startswith("model.b")), "data.batch_size=16", "data.portraits=24"]
TINY += ["model.backbone=test_resnet", "data.clean_train_photos=28", "finetune.epochs=1"]

jupytext = pytest.importorskip("jupytext", reason="needs the extra `docs`")


def test_there_are_three() -> None:
    assert [path.stem for path in SCRIPTS] == ["ensemble", "first_model", "mistakes"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_and_script_are_a_pair_without_output(script: Path) -> None:
    ours, notebook = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in ours.cells
    ], f"run: jupytext --to ipynb {script}"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_colab_needs_one_line(script: Path) -> None:
    assert len(re.findall(r"%pip install", script.read_text())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebooks_run(script: Path, competition: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `docs`")
    notebook = jupytext.read(script.with_suffix(".ipynb"))
    options = [*TINY, f"outputs={tmp_path}"]
    for cell in notebook.cells:
        cell.source = re.sub(r"^ROOT = None.*$", f"ROOT = {str(competition)!r}", cell.source, flags=re.MULTILINE)
        cell.source = re.sub(r"^OPTIONS = .*$", f"OPTIONS = {options!r}", cell.source, flags=re.MULTILINE)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs").is_dir()
