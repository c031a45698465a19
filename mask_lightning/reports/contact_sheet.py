"""People and problems as rows of small photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mask_lightning.data.auditing.checks import describe
from mask_lightning.data.auditing.findings import KINDS, Finding
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import SHOTS
from mask_lightning.errors import PhotoError
from mask_lightning.labels import FACE, PERSON_TASKS, LabelSpace
from mask_lightning.reports.figures import BLUE, GREY, ORANGE, RED, new_figure

TILE_HEIGHT = 192  # pixels of a photo on the sheet
FRAMES = (BLUE, ORANGE)  # by turns, so that the photos of one finding are seen to belong together


@dataclass(frozen=True)
class Tile:
    """A photo on the sheet, in a frame of that colour, if any; without a path an empty place."""

    path: str | None
    caption: str = ""
    frame: str = ""


@dataclass(frozen=True)
class SheetRow:
    """A label and at most as many tiles as the sheet has columns."""

    label: str
    tiles: tuple[Tile, ...]
    is_problem: bool = False


def people_rows(
    table: pd.DataFrame, count: int, *, space: LabelSpace = FACE, strata: Sequence[str] = PERSON_TASKS
) -> list[SheetRow]:
    """At most `count` rows: a person each, one of every stratum (gender and age band) before a second of any.

    Where everybody has one photo only, a row is of several people.
    """
    said = [*strata, *(["years"] if "years" in table else [])]
    if not table["person_id"].duplicated().any():
        people = _choose_people(table, count * len(SHOTS), strata, said)
        tiles = [Tile(row["path"], describe(row, said, space)) for row in people.to_dict("records")]
        chunks = [tuple(tiles[start : start + len(SHOTS)]) for start in range(0, len(tiles), len(SHOTS))]
        return [SheetRow("people" if i == 0 else "", chunk) for i, chunk in enumerate(chunks)]
    rows: list[SheetRow] = []
    for person in _choose_people(table, count, strata, said)[["person_id", *said]].to_dict("records"):
        photos = table.merge(pd.DataFrame([person]), on=["person_id", *said])
        label = f"{person['person_id']}\n{describe(person, said, space)}".replace(", ", "\n")
        rows.append(SheetRow(label, _tiles_of(photos, with_captions=not rows)))
    return rows


def _choose_people(table: pd.DataFrame, count: int, strata: Sequence[str], said: Sequence[str]) -> pd.DataFrame:
    people = table.drop_duplicates(["person_id", *said])
    turn = people.groupby(list(strata)).cumcount() if strata else pd.Series(0, people.index)
    return people.loc[turn.sort_values(kind="stable").index[:count]].sort_values([*said, "person_id"])


def _tiles_of(photos: pd.DataFrame, *, with_captions: bool) -> tuple[Tile, ...]:
    """A place per shot, also for those that are missing; the first photos where there are other shots, or none."""
    if "shot" not in photos or not photos["shot"].isin(SHOTS).all():
        return tuple(Tile(path) for path in photos["path"][: len(SHOTS)])
    paths = photos.drop_duplicates("shot").set_index("shot")["path"].to_dict()
    return tuple(Tile(paths.get(shot), shot if with_captions else "") for shot in SHOTS)


def problem_rows(found: Mapping[str, Sequence[Finding]], *, columns: int = len(SHOTS)) -> list[SheetRow]:
    """A row per kind of finding that has photos: as many of its findings as fit, each with its photos together."""
    visible = {kind: [one for one in findings if one.photos] for kind, findings in found.items()}
    return [_problem_row(kind, findings, columns) for kind, findings in visible.items() if findings]


def _problem_row(kind: str, findings: Sequence[Finding], columns: int) -> SheetRow:
    tiles: list[Tile] = []
    shown = 0
    for finding in findings:
        photos = finding.photos[:columns]
        if len(tiles) + len(photos) > columns:
            break
        tiles += [Tile(path, _place(Path(path)), frame=FRAMES[shown % 2]) for path in photos]
        shown += 1
    label = f"{KINDS[kind].title}\n({shown} of {len(findings)})"
    return SheetRow(label, tuple(tiles), is_problem=True)


def _place(photo: Path) -> str:
    """Folder and file; of a folder name that parses, the parts that are labels."""
    parts = photo.parent.name.split("_")
    return f"{' '.join([*parts[:2], parts[3]]) if len(parts) == 4 else photo.parent.name}\n{photo.name}"


def plot_sheet(rows: Sequence[SheetRow], *, title: str, columns: int = len(SHOTS)) -> Figure:
    """Every row's label at its left, its tiles beside it."""
    figure = new_figure(1.25 * columns + 1.6, 1.75 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[1.1, *[1] * columns])
    for axis in grid.flat:
        axis.set_axis_off()
    for row, (label, *axes) in zip(rows, grid, strict=True):
        text = "\n".join(line for part in row.label.split("\n") for line in wrap(part, 18))
        colour = RED if row.is_problem else "black"
        label.text(1, 0.5, text, ha="right", va="center", fontsize=8, color=colour, transform=label.transAxes)
        for axis, tile in zip(axes, row.tiles, strict=False):
            _draw_tile(axis, tile)
    figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def _draw_tile(axis: Axes, tile: Tile) -> None:
    axis.set_title(tile.caption, fontsize=6 if "\n" in tile.caption else 7, pad=2)
    if tile.frame:
        frame = Rectangle((0, 0), 1, 1, fill=False, ec=tile.frame, lw=2.5, clip_on=False, transform=axis.transAxes)
        axis.add_patch(frame)
    photo = _thumbnail(tile.path) if tile.path else None
    if photo is not None:
        axis.imshow(photo)
        return
    axis.imshow(np.full((4, 3, 3), 225, np.uint8))
    text = "cannot be\ndecoded" if tile.path else "no photo"
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color=RED if tile.path else GREY,
              transform=axis.transAxes)  # fmt: skip


def _thumbnail(path: str) -> npt.NDArray[np.uint8] | None:
    """RGB (H, W, 3) of TILE_HEIGHT or less; None if the photo cannot be decoded."""
    try:
        photo = open_photo(path)
    except PhotoError:
        return None
    photo.thumbnail((2 * TILE_HEIGHT, TILE_HEIGHT))
    return np.asarray(photo)
