"""Terminal report of `mask_faces`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mask_lightning.labels import AGE, GENDER, age_band

if TYPE_CHECKING:  # synthetic/ is only for its command
    from mask_lightning.synthetic.masks.folder import MaskedFolder

REASON = re.compile(r"no face found|head turned|cannot decode|expected a photo|[^;(]+")


def print_masked(folder: MaskedFolder) -> None:
    """Print the people, the photos left out by reason, the content of the folder and the next command."""
    console = Console(stderr=True)
    console.print(people_table(folder.people))
    for reason, count in left_out_by_reason(folder.left_out).items():
        console.print(f"left out: {count} photos, {escape(reason)}", highlight=False)
    console.print(
        Panel(
            f"{escape(str(folder.root))}: {len(folder.people)} people, {len(folder.provenance)} photos with "
            "[bold]drawn masks[/bold]. Scores on them say less about real masks than about gender and age. "
            "provenance.csv lists the source of each photo, left_out.csv the photos left out. The licence of the "
            "source photos applies to these photos, too.",
            border_style="yellow",
            expand=False,
        )
    )
    command = f"next:    python -m mask_lightning.train data.root={folder.root}"
    console.print(command, highlight=False, markup=False, soft_wrap=True)


def people_table(people: pd.DataFrame) -> Table:
    """Build the table of people by gender and age band."""
    bands = pd.Series(age_band(people["age"].to_numpy(int)), people.index)
    table = Table(title="people")
    for heading in ("", *AGE.classes, "all"):
        table.add_column(heading, justify="right" if heading else "left")
    for gender in GENDER.classes:
        chosen = people["gender"] == gender
        table.add_row(
            gender, *[str(int((chosen & (bands == i)).sum())) for i in range(AGE.num_classes)], str(chosen.sum())
        )
    return table


def left_out_by_reason(left_out: pd.DataFrame) -> dict[str, int]:
    """Count the photos left out per reason (without photo-specific details), the most frequent first."""
    reasons = left_out["reason"].map(lambda reason: match[0].strip() if (match := REASON.match(reason)) else reason)
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}
