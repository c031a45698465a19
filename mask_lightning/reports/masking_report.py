"""What the drawing of masks has come to, on the terminal."""

from __future__ import annotations

import re

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mask_lightning.labels import AGE, GENDER, age_band
from mask_lightning.synthetic.masks.folder import MaskedFolder

REASON = re.compile(r"no face found|head turned|cannot decode|expected a photo|[^;(]+")


def print_masked(folder: MaskedFolder) -> None:
    """The people drawn, the photos left out by reason, what the folder is, and the next command."""
    console = Console(stderr=True)
    console.print(people_table(folder.people))
    for reason, count in left_out_by_reason(folder.left_out).items():
        console.print(f"left out: {count} photos, {escape(reason)}", highlight=False)
    console.print(
        Panel(
            f"{escape(str(folder.root))}: {len(folder.people)} people, {len(folder.provenance)} photos with "
            "[bold]drawn masks[/bold]. All shots of a person come from the photos of the set, so scores on them say "
            "less about real masks than about gender and age. Where each shot comes from: provenance.csv; who was left "
            "out: left_out.csv. The licence of the face set holds for these photos, too.",
            border_style="yellow",
            expand=False,
        )
    )
    command = f"next:    python -m mask_lightning.train data.root={folder.root}"
    console.print(command, highlight=False, markup=False, soft_wrap=True)


def people_table(people: pd.DataFrame) -> Table:
    """People by gender and age band."""
    bands = pd.Series(age_band(people["age"].to_numpy(int)), people.index)
    table = Table(title="people")
    for heading in ("", *AGE.classes, "all"):
        table.add_column(heading, justify="right" if heading else "left")
    for gender in GENDER.classes:
        of = people["gender"] == gender
        table.add_row(gender, *[str(int((of & (bands == i)).sum())) for i in range(AGE.num_classes)], str(of.sum()))
    return table


def left_out_by_reason(left_out: pd.DataFrame) -> dict[str, int]:
    """Reasons without what differs from photo to photo -> how many photos, the most frequent first."""
    reasons = left_out["reason"].map(lambda reason: match[0].strip() if (match := REASON.match(reason)) else reason)
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}
