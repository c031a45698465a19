"""Names of photos, people and classes with markup, formulas and escapes do no harm in pages, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel

from mask_lightning.cli.compose import compose
from mask_lightning.pipelines import audit as audit_runs
from mask_lightning.pipelines import evaluate as evaluation_runs
from mask_lightning.pipelines import report as report_runs
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.reports import html_page as page
from mask_lightning.settings.base import check
from mask_lightning.settings.evaluation import AuditSettings, EvaluateSettings, ReportSettings
from mask_lightning.settings.inference import PredictSettings

SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, "$x_{$ [/bold] {{ 7 * 7 }} %(a)s")  # of HTML; of matplotlib, rich, Jinja and printf
OTHERS = ("=cmd|' /C calc'!A0", "[red]")
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false", "hydra.run.dir=.")


@pytest.mark.parametrize("text", CLASSES)
def test_a_page_escapes_text(text: str) -> None:
    html = page.render("suspects.html", found=[], photos=1, people=1, models=1, csv_name=text, pairs={}, cards={})
    assert SCRIPT not in html
    assert "49" not in html
    assert page.render("base.html") is not None


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 people with three photos each, with markup of some language in every name."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "photos").mkdir()
    for person, shot in np.ndindex(24, 3):
        name = f"<img src=x onerror=alert({person})> {shot} [red] $\\frac$.png"
        Image.fromarray(rng.integers(0, 256, (64, 48, 3), np.uint8)).save(tmp_path / "photos" / name)
        rows.append((f"photos/{name}", f"<b>{person}</b> [/] $q", CLASSES[person % 2], OTHERS[person // 2 % 2]))
    pd.DataFrame(rows, columns=["path", "person_id", "kind", "other"]).to_csv(tmp_path / "faces.csv", index=False)
    return tmp_path / "faces.csv"


def settings(command: str, kind: type[BaseModel], *overrides: str, **values: Any) -> Any:
    config = compose(command, kind, overrides)
    return check(kind, {**config, **values})


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
@pytest.mark.filterwarnings("ignore:constrained_layout not applied:UserWarning")  # such names are long, too
def test_every_command_accepts_hostile_names(compose_train, table: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "[run] $x"
    whole = ("data.crop_height=null", "data.crop_width=null", "data.root=null")
    training = compose_train("data=table", f"data.table={table}", "trainer.max_batches=2", *whole)
    runs.inspect_run(training)
    runs.train_run(training, folder)
    evaluation_runs.evaluate_run(settings("evaluate", EvaluateSettings, *QUIET, ckpt=folder), tmp_path / "evaluation")
    report_runs.report_run(settings("report", ReportSettings, *QUIET, ckpt=folder), tmp_path / "report")
    for root in (table.parent / "photos", next((table.parent / "photos").iterdir())):
        asked = settings("predict", PredictSettings, *QUIET, ckpt=folder, data={"root": root})
        predict_photos(asked, tmp_path / f"answers-{root.suffix}")
    audited = settings("audit", AuditSettings, "data=table", f"data.table={table}", f"outputs={tmp_path}", "workers=1")
    audit_runs.audit_run(audited, tmp_path / "audit")
    html = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "{{ 7 * 7 }}" in html
    assert str(folder) in capsys.readouterr().err.replace("\n", "")
