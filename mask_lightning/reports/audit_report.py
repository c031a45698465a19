"""Output of an audit: audit.json, figures, and tables on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mask_lightning.data.auditing.audit import Audit, count_classes, count_codes, tally
from mask_lightning.data.auditing.findings import KINDS, by_kind
from mask_lightning.labels import LabelSpace
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.photo_grids import people_rows, plot_sheet, problem_rows
from mask_lightning.reports.plots import plot_balance
from mask_lightning.utils.files import write_json

MAX_CODES = 60  # combined classes up to which their table is printed
EXAMPLES = 3  # printed findings of each kind; audit.json contains all


def save(folder: Path, audit: Audit, *, root: Path, people: int) -> None:
    """Write audit.json, classes.png and, if there are photos, contact_sheet.png.

    Args:
        folder: created if missing.
        audit: result of the audit.
        root: data folder.
        people: number of people on the contact sheet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "audit.json", {"root": str(root), **audit.to_plain()})
    table, space = audit.table, audit.space
    counts = {task.name: count_classes(table, task) for task in space.tasks}
    title = f"{len(table):,} photos of {table['person_id'].nunique():,} people in {root}"
    save_figure(plot_balance(counts, count_codes(table, space), title=title), folder / "classes.png")
    rows = people_rows(table, people, space=space, strata=audit.strata) + problem_rows(by_kind(audit.findings))
    if rows:
        save_figure(plot_sheet(rows, title=title), folder / "contact_sheet.png")


def print_audit(folder: Path, audit: Audit, *, root: Path, drawn: bool) -> None:
    """Print counts, findings, the verdict and the written files.

    Args:
        folder: folder with the results.
        audit: result of the audit.
        root: data folder.
        drawn: True for drawn portraits instead of photos.
    """
    console = Console()
    table = audit.table
    kind = "drawn portraits" if drawn else "photos"
    console.print(
        f"\n[bold]{len(table):,} {kind} of {table['person_id'].nunique():,} people[/bold] in {escape(str(root))}"
    )
    space = audit.space
    console.print(classes_table(audit, space))
    if len(space.tasks) > 1 and space.num_codes <= MAX_CODES:
        console.print(codes_table(audit, space))
    for line in summary_lines(audit):
        console.print(line, markup=False, highlight=False)
    for text in finding_lines(audit, root) or [Text("no problems found", style="green")]:
        console.print(text, highlight=False, soft_wrap=True)
    rate = len(audit.facts) / max(audit.seconds, 1e-9)
    console.print(f"decoded in {audit.seconds:.1f} s, {rate:.0f} photos/s", highlight=False)
    console.print(verdict(audit), highlight=False, soft_wrap=True)
    console.print(
        f"look at: {escape(str(folder))}/contact_sheet.png, classes.png, audit.json", highlight=False, soft_wrap=True
    )


def classes_table(audit: Audit, space: LabelSpace) -> Table:
    """Build the table of photos and people per class."""
    table = Table(title="classes")
    for heading in ("task", "class", "photos", "share", "people"):
        table.add_column(heading, justify="left" if heading in ("task", "class") else "right")
    for task in space.tasks:
        counts = count_classes(audit.table, task)
        total = max(int(counts["photos"].sum()), 1)
        for i, (name, row) in enumerate(counts.iterrows()):
            share, style = row["photos"] / total, None if row["photos"] else "red"
            cells = f"{row['photos']:,}", f"{share:.1%}", f"{row['people']:,}"
            table.add_row("" if i else task.name, escape(str(name)), *cells, style=style)
        table.add_section()
    return table


def codes_table(audit: Audit, space: LabelSpace) -> Table:
    """Build the table of photos per combined class: columns are the classes of the first task."""
    first, rest = space.tasks[0], LabelSpace(space.tasks[1:])
    photos = count_codes(audit.table, space)["photos"].to_numpy().reshape(first.num_classes, -1)
    table = Table(title=f"photos by {' x '.join(space.names)}")
    table.add_column("")
    for name in first.classes:
        table.add_column(escape(name), justify="right")
    for name, counts in zip(rest.code_names, photos.T, strict=True):
        table.add_row(escape(name), *[f"{count:,}" if count else "[red]0[/red]" for count in counts])
    return table


def summary_lines(audit: Audit) -> list[str]:
    """Describe photos per person, sizes, modes, formats and near-duplicates."""
    per_person = tally(audit.table["person_id"].value_counts())
    lines = [f"photos per person: {_format_counts(per_person)}"]
    stored = audit.stored
    lines += [f"{heading}: {_format_counts(tally(stored[heading]))}" for heading in stored]
    lines.append(
        f"near-duplicate pairs: {audit.near.within:,} of one person, {audit.near.across:,} of different people"
    )
    return lines


def _format_counts(counts: dict[str, int], most: int = 6) -> str:
    shown = [f"{value} ({count:,})" for value, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} others" if rest else "") or "none"


def finding_lines(audit: Audit, root: Path) -> list[Text]:
    """Describe each kind of finding: count, remedy and examples; kinds that make training fail are red."""
    lines = []
    for name, found in by_kind(audit.findings).items():
        kind = KINDS[name]
        head = Text(f"{kind.title}: {len(found):,}", style="bold red" if kind.stops_training else "bold yellow")
        lines.append(head.append(f"  ({kind.remedy})", style="not bold default"))
        # Paths are shown relative to the data folder.
        lines += [Text("    " + one.text.replace(f"{root.resolve()}/", "")) for one in found[:EXAMPLES]]
        if len(found) > EXAMPLES:
            lines.append(Text(f"    and {len(found) - EXAMPLES:,} more in audit.json"))
    return lines


def verdict(audit: Audit) -> str:
    """Return one line: can training start?"""
    stopping = [KINDS[kind].title for kind in by_kind(audit.findings) if KINDS[kind].stops_training]
    if stopping:
        return f"[red]training would fail[/red]: {'; '.join(stopping)}"
    return "[green]training can start[/green]"
