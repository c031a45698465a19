"""From a real, tiny run to the page: what it shows, that it is whole, and that no name can break it."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for

from mask_lightning.errors import ConfigError, RunFolderError
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.pipelines import report as report_runs
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.labelled import LabelledPredictions
from mask_lightning.reports.report_page import SECTIONS, Report, render_report
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.evaluation import ReportSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "model.image_size=64", "trainer.max_batches=1")
QUIET = ("hydra.run.dir=.", "num_workers=0", "accelerator=cpu", "progress=false")
HOSTILE = '<img src=x onerror=alert(1)> & "co"'


class Page(HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def train(folder: Path, data: str, *overrides: str) -> Path:
    settings = settings_for("train", TrainSettings, *TINY, data, "model.backbone=test_efficientnet", *overrides)
    runs.train_run(settings, folder)
    return folder


def report(ckpt: Path, out: Path, *overrides: str) -> Report:
    return report_runs.report_run(settings_for("report", ReportSettings, *QUIET, f"ckpt='{ckpt}'", *overrides), out)


@pytest.fixture(scope="module")
def hostile(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The report of a run whose name, and whose first person's, are markup."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(competition, root / "data")
    for folder in (root / "data" / "train" / "images").iterdir():
        if folder.is_dir():
            number, rest = folder.name.split("_", 1)
            folder.rename(folder.with_name(f"{HOSTILE}{number}_{rest}"))
    (root / "data" / "train" / "train.csv").unlink()
    run = train(root / HOSTILE, f"data.root={root / 'data'}")
    return report(run, root / "out"), root / "out"


def test_what_it_leaves(hostile: tuple[Report, Path]) -> None:
    made, out = hostile
    pictures = {path.stem for path in out.glob("*.png")}
    confusions = {f"confusion{task}{kind}" for task in ("", "_mask", "_gender", "_age") for kind in ("", "_rates")}
    assert pictures >= confusions | {"slices", "reliability", "classes", "curves"}
    assert pictures >= {"top_losses", "heat_maps", "augmentation", "confused", "surest_wrong"}
    assert (out / "report.html").stat().st_size < 8e6
    assert made.evaluation.photos == len(made.predictions)
    assert set(made.evaluation.scores) == {"joint", *FACE.names}


def test_no_name_can_break_the_page(hostile: tuple[Report, Path]) -> None:
    page = Page((hostile[1] / "report.html").read_text())
    assert HOSTILE in page.text
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))


def test_the_page_needs_nothing_else(hostile: tuple[Report, Path]) -> None:
    html = (hostile[1] / "report.html").read_text()
    page = Page(html)
    assert not page.all("script")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"url\(|@import", html)


def test_the_page_can_be_read_by_everyone(hostile: tuple[Report, Path]) -> None:
    page = Page((hostile[1] / "report.html").read_text())
    assert page.all("html")[0]["lang"] == "en"
    assert all(image["alt"] and image["width"] and image["height"] for image in page.all("img"))
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert len(page.all("h1")) == 1
    anchors = [heading["id"] for heading in page.all("h2")]
    assert anchors == list(SECTIONS)
    assert [str(link["href"]) for link in page.all("a")] == [f"#{anchor}" for anchor in anchors]


def test_one_task_and_other_photos(competition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", f"data.root={competition}", "task=age")
    made = report(run, tmp_path / "out", f"data.root={competition}")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert f"168 photos of 23 people in {competition}" in page.text
    assert any(re.search(r"was trained on 1\d\d of these photos", note) for note in made.notes)
    assert all(note in page.text for note in made.notes)
    assert list(made.evaluation.scores) == ["age"]
    assert not (tmp_path / "out" / "confusion.png").exists()
    assert "report.html" in capsys.readouterr().err.replace("\n", "")
    with pytest.raises(RunFolderError, match=r"already holds report\.html"):
        report(run, tmp_path / "out")


def test_a_checkpoint_without_its_run(competition: Path, tmp_path: Path) -> None:
    """Photos that a table lists, without a shot; nothing is known of the training but what the checkpoint carries."""
    run = train(tmp_path / "run", f"data.root={competition}", "task=mask")
    alone = Path(shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt"))
    paths = sorted(path for path in competition.rglob("*1*/*.*") if not path.name.startswith("."))[:12]
    masks = ["wear" if "mask" in path.stem else "normal" for path in paths]
    rows = pd.DataFrame({"path": paths, "person_id": [path.parent.name for path in paths], "mask": masks})
    rows.to_csv(tmp_path / "photos.csv", index=False)
    table = f"data.table={tmp_path / 'photos.csv'}"
    made = report(alone, tmp_path / "out", "data=table", table, f"data.root={competition}")
    assert made.title == "alone.ckpt"
    assert "curves" not in made.charts
    assert "trained on" not in made.facts
    assert made.album.augmented is not None


def test_a_network_that_cannot_be_explained(hostile: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ConfigError("expected a map of places")

    monkeypatch.setattr(report_runs, "heat_maps", refuse)
    run = RunFolder(hostile[1].parent / HOSTILE)
    labelled = LabelledPredictions(hostile[0].predictions, run, held_out=True, root=Path("data"), seen=0)
    made = report_runs.make_report(labelled, load_trained(run.path, torch.device("cpu")))
    assert "heat_maps" not in made.album.sheets
    assert "No heat maps: expected a map of places." in render_report(made, today=date(2026, 1, 2))


WRAPPER = """<!doctype html><body style="margin:0">
<iframe src="report.html" style="border:0;width:{width}px;height:900px"></iframe><script>onload = () => document.title =
"wide " + document.querySelector("iframe").contentDocument.documentElement.scrollWidth</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_errors(hostile: tuple[Report, Path], width: int, scheme: str) -> None:
    """In a frame of that width, since a window cannot be as narrow as a phone."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium; apt-get install chromium")
    wrapper = hostile[1] / f"wrapper-{width}.html"
    wrapper.write_text(WRAPPER.format(width=width))
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom")
    logged = ("--enable-logging=stderr", "--virtual-time-budget=5000", "--hide-scrollbars", "--window-size=1400,1000")
    colours = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    shown = subprocess.run(
        [browser, *options, *logged, colours, wrapper.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    assert f"<title>wide {width}</title>" in shown.stdout
    assert "CONSOLE" not in shown.stderr
