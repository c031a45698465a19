"""Write the tables of docs/ and README.md that show the measurements in tests/benchmarks/results.

    python docs/hooks/results.py    after a benchmark: renew the tables

A table stands between `<!-- table: NAME -->` and `<!-- end table -->`, so that it is also readable on GitHub.
tests/test_site.py fails if one is out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("results", "performance", "robustness"))]
BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n\n).*?(\n*<!-- end table -->)", re.DOTALL)

LABELS = {
    "experiment=quick": "`experiment=quick`",
    "fastai fit_one_cycle(3, slice(5e-4, 2e-3))": "fastai 2.8.12, its best recipe found",
    "loop by hand, AdamW 5e-4 / 2e-3, one-cycle": "a hand-written loop around timm",
}
TASKS = {"f1": "macro F1 (18)", "accuracy": "accuracy", "mask/f1": "mask", "gender/f1": "gender", "age/f1": "age"}


def number(value: float, digits: int = 3) -> str:
    """Return the number without a leading zero: .415."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text not in ("1.000", "-1.000") else text


def spread(values: pd.Series[float]) -> str:
    """Return mean and standard deviation, or the single value."""
    return number(values.mean()) + (f" ± {number(values.std())}" if len(values) > 1 else "")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def read(name: str) -> pd.DataFrame:
    """Read a CSV file of results."""
    return pd.read_csv(RESULTS / f"{name}.csv")


def quick() -> str:
    """Return the comparison of `quick` with fastai and a loop, the best mean in bold."""
    runs = read("fairmask")
    rows = []
    for recipe, label in LABELS.items():
        own = runs[runs.recipe == recipe]
        rows.append([label, *(spread(own[column]) for column in TASKS)])
    rows[0][1] = f"**{rows[0][1]}**"
    return table(["same people, same splits", *TASKS.values()], rows)


def quick_by_seed() -> str:
    """Return the macro F1 of the same runs by seed."""
    runs = read("fairmask")
    rows = [[label, *map(number, runs[runs.recipe == recipe].f1)] for recipe, label in LABELS.items()]
    return table(["macro F1 (18) by seed", "0", "1", "2"], rows)


def one_factor() -> str:
    """Return each changed factor with its differences to `quick`, seed by seed."""
    runs = read("one_factor")
    base = runs[runs.recipe == "experiment=quick"].set_index("seed").f1
    columns = ("accuracy", "gender/f1", "age/f1")
    rows = []
    for recipe, own in runs.groupby("recipe", sort=False):
        name = str(recipe).removeprefix("experiment=")
        differences = own.set_index("seed").f1 - base
        paired = " / ".join(f"{value:+.3f}".replace("0.", ".") for value in differences)
        label = "`quick`" if name == "quick" else f"`ablation/{name}`"
        rows.append([label, spread(own.f1), "" if name == "quick" else paired, *(spread(own[c]) for c in columns)])
    return table(["`experiment=`", "macro F1 (18)", "paired difference", "accuracy", "gender", "age"], rows)


def _experiment(name: object) -> str:
    return "`quick`" if name == "quick" else f"`ablation/{name}`"


def heads_once() -> str:
    """Return heads, sharing and losses on one seed, the best first."""
    runs = read("heads_sharing_losses")
    runs = runs[(runs.seed == 10) & runs.experiment.str.startswith("quick")].sort_values("f1", ascending=False)
    columns = [*TASKS, "age>=60/f1"]
    rows = [
        [_experiment(run["experiment"]), *(number(run[c]) for c in columns), f"{run['parameters'] / 1e6:.1f} M"]
        for _, run in runs.iterrows()
    ]
    return table(["`experiment=`", *TASKS.values(), "age >= 60", "parameters"], rows)


def heads_seeds() -> str:
    """Return the heads and losses that were run on seeds 0 to 2, the best mean first."""
    runs = read("heads_sharing_losses")
    runs = runs[runs.seed < 10]
    groups = sorted(runs.groupby("experiment"), key=lambda group: -group[1].f1.mean())
    columns = ["accuracy", "mask/f1", "gender/f1", "age/f1", "age>=60/f1"]
    rows = [
        [_experiment(name), spread(own.f1), " / ".join(map(number, own.f1)), *(spread(own[c]) for c in columns)]
        for name, own in groups
    ]
    head = ["seeds 0 to 2", "macro F1 (18)", "by seed", "accuracy", "mask", "gender", "age", "age >= 60"]
    return table(head, rows)


def lr_auto() -> str:
    """Return `optim.lr=auto` against fixed learning rates, the best mean in bold."""
    runs = read("lr_auto")
    best = runs.groupby("optim.lr").f1.mean().max()
    rows = []
    for lr, own in runs.groupby("optim.lr", sort=False):
        found = ", ".join(number(value, 4) for value in own.found_lr.dropna())
        label = f"`auto` (found {found})" if found else f"{float(str(lr)):g}"
        mean = spread(own.f1)
        rows.append([label, *map(number, own.f1), f"**{mean}**" if own.f1.mean() == best else mean])
    return table(["`optim.lr`", "seed 0", "1", "2", "mean"], rows)


def suspects() -> str:
    """Return how many of the changed labels `suspects` finds."""
    rows = [
        [str(row.task), *(f"{value:.0f}" for value in (row.flipped, row.listed, row.found))]
        + [number(value, 2) for value in (row.recall, row.precision, row.agreement)]
        for row in read("suspects").itertuples()
    ]
    return table(["", "changed", "listed", "found", "recall", "precision", "networks agree with the labels"], rows)


def ensembles() -> str:
    """Return members, votes, soups and single models."""
    scores = read("ensembles")
    columns = ("age", "mask", "gender", "joint")

    def cell(what: str, task: str) -> str:
        found = scores[(scores.what == what) & (scores.task == task)]
        if found.empty:
            return ""
        row = found.iloc[0]
        interval = "" if pd.isna(row.f1_low) else f" [{number(row.f1_low)}, {number(row.f1_high)}]"
        return f"{number(row.f1)}{interval} ({number(row.accuracy)})"

    def best(task: str) -> str:
        members = scores[(scores.task == task) & scores.what.str.match(rf"{task}\d+$")]
        return cell(str(members.loc[members.f1.idxmax()].what), task)

    def single(epochs: dict[str, int], suffix: str = "") -> list[str]:
        return [cell(f"one model on everyone, {n} epochs{suffix}", task) for task, n in epochs.items()]

    balanced = ", logit adjustment"
    equal_epochs, equal_steps = {"age": 8, "mask": 2, "gender": 3}, {"age": 2, "mask": 2, "gender": 2}
    multi = "multi-task, one model on everyone, 3 epochs"
    rows = [["mean member", *(cell("mean member", task) for task in columns)]]
    rows.append(["best member", *map(best, columns[:3]), cell("best member of each task", "joint")])
    rows += [[what, *(cell(what, task) for task in columns)] for what in VOTES]
    for label, epochs in (("equal epochs", equal_epochs), ("equal steps", equal_steps)):
        rows.append([f"one model on everyone, {label}", *single(epochs), ""])
        rows.append(["the same, balanced by logit adjustment", *single(epochs, balanced), ""])
    rows.append(["multi-task model, 3 epochs", *(cell(multi, task) for task in columns)])
    rows.append(["the same, balanced", *(cell(multi + balanced, task) for task in columns)])
    return table(["", "age (9)", "mask (10)", "gender (3)", "combined"], rows)


VOTES = ("hard vote", "soft vote", "uniform soup", "greedy soup")


def load(name: str) -> dict[str, Any]:
    """Read a JSON file of results."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def signed(value_and_error: Sequence[float | None]) -> str:
    """Return a difference and, of several seeds, its standard error: +.162 ± .024."""
    value, error = value_and_error
    text = f"{value:+.3f}" + ("" if error is None else f" ± {error:.3f}")
    return text.replace("0.", ".")


def complementary_labels() -> str:
    """Return the score of every epoch by either version, and the true scores of the epoch that each chooses."""
    found = load("complementary_labels")
    rows = []
    for key, label in (("version_0_1", "0.1.0: the combined class"), ("today", "today: the mean of the tasks")):
        seeds = found["by_seed"]
        epochs = "; ".join(" / ".join(number(epoch[key]) for epoch in seed["epochs"]) for seed in seeds)
        chosen = ", ".join(str(seed[key]["epoch"]) for seed in seeds)
        true = [spread(pd.Series([seed[key][name] for seed in seeds])) for name in ("mean", "mask", "age")]
        rows.append([label, epochs, chosen, *true])
    differences = found["today_minus_version_0_1"]
    rows.append(["difference", "", "", *(signed(differences[name]) for name in ("mean", "mask", "age"))])
    head = ["`val/f1`", "by epoch; each seed", "best epochs", "on 300 other people: mean", "mask", "age"]
    return table(head, rows)


def shared_photos() -> str:
    """Return reported and true scores with people who are there twice, unknown to the split or kept together."""
    found = load("shared_photos")
    rows = []
    for key, label in (("unlinked", "as other people"), ("linked", "as one family")):
        seeds = [pair[key] for pair in found["paired_seeds"]]
        scores = [spread(pd.Series([each[name] for each in seeds])) for name in ("reported_f1", "other_people_f1")]
        rows.append([label, *scores, signed(found["reported_minus_true"][key])])
    rows.append(["difference", "", "", signed(found["reported_minus_true"]["difference"])])
    return table(["re-saved photos are split", "reported", "on 200 other people", "reported - true"], rows)


def label_issues() -> str:
    """Return how well each checkpoint finds the changed labels, and the paired difference."""
    found = load("label_issues")
    seeds, rows = found["by_seed"], []
    for task, difference in found["last_minus_best"].items():
        changed = sum(seed[task]["changed"] for seed in seeds)
        for name in ("best", "last"):
            own = [seed[task][name] for seed in seeds]
            hits = sum(round(each["precision"] * seed[task]["changed"]) for each, seed in zip(own, seeds, strict=True))
            values = [[each[key] for each in own] for key in ("average_precision", "agreement")]
            by_seed = [" / ".join(map(number, each)) for each in values]
            rows.append([task, f"`{name}.ckpt`", f"{hits} of {changed}", *by_seed])
        differences = [signed(difference[key]) for key in ("average_precision", "agreement")]
        rows.append([task, "last - best", "", *differences])
    head = ["", "out of fold by", "found", "average precision", "networks agree with the labels"]
    return table(head, rows)


def chosen_votes() -> str:
    """Return what votes and soups report beyond their true score, chosen in sample or cross-fitted."""
    found = load("chosen_votes")
    rows = []
    for kind, measures in found["over_seeds"].items():
        own = measures["f1"]
        true = [seed[kind]["f1"]["other_people"] for seed in found["by_seed"]]
        is_chosen = kind not in ("hard vote", "uniform soup")
        rows.append(
            [
                kind if is_chosen else f"{kind} (nothing is chosen)",
                spread(pd.Series(true)),
                signed(own["in_sample_minus_true"]),
                signed(own["cross_fitted_minus_true"]) if is_chosen else "",
                signed(own["in_sample_minus_cross_fitted"]) if is_chosen else "",
            ]
        )
    return table(["", "on other people", "in sample - true", "cross-fitted - true", "in sample - cross-fitted"], rows)


def unstable_splits() -> str:
    """Return the deviations of macro F1 over draws of the held-out people, means over the seeds."""
    found = load("unstable_splits")
    labels = {
        "deviation_of_f1": "score of one model, one split",
        "deviation_replaced": "difference of one model from itself, two splits",
        "deviation_same_people": "difference of two models, one split",
        "deviation_both": "difference of two models, two splits",
    }
    pairs = ("best_and_last", "two_members")
    rows = []
    for key, label in labels.items():
        seeds = [[seed[pair][key] for seed in found["by_seed"] if pair in seed] for pair in pairs]
        rows.append([label, *(" / ".join(map(number, each)) for each in seeds)])
    return table(["standard deviation, by seed", "`best.ckpt` and `last.ckpt`", "networks of two folds"], rows)


def targets() -> str:
    """Return every measured ratio beside its target, a missed one in bold."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text())
        for bar in content.get("bars", ()) if isinstance(content, dict) else ():
            is_least = "at_least" in bar
            target = bar["at_least"] if is_least else bar["at_most"]
            value = f"{bar['value']:.3g}"
            missed = bar["value"] < target if is_least else bar["value"] > target
            sign = ">=" if is_least else "<="
            rows.append([bar["what"], f"**{value}**" if missed else value, f"{sign} {target:g}", f"`{path.name}`"])
    return table(["measured", "value", "target", "file"], rows)


def face_pretraining() -> str:
    """Return `quick` and `from_faces` on the same seeds, and their paired difference with its standard error."""
    runs = read("face_pretraining")
    base, faces = (runs[runs.recipe == name].set_index("seed") for name in ("quick", "from_faces"))
    rows = [[f"`experiment={own.recipe.iloc[0]}`", *(spread(own[column]) for column in TASKS)] for own in (base, faces)]
    paired = [faces[column] - base[column] for column in TASKS]
    rows.append(["difference", *(signed([each.mean(), each.sem()]) for each in paired)])
    return table(["seeds 0 to 4", *TASKS.values()], rows)


def face_pretraining_by_seed() -> str:
    """Return the macro F1 of the same runs by seed."""
    runs = read("face_pretraining")
    rows = [[f"`experiment={name}`", *map(number, own.f1)] for name, own in runs.groupby("recipe", sort=False)]
    return table(["macro F1 (18) by seed", *map(str, sorted(runs.seed.unique()))], rows)


def techniques() -> str:
    """Return each change of `quick` with the paired differences of its scores, and its cost."""
    return changes(read("techniques"), "added to `quick`")


def techniques_128px() -> str:
    """Return further changes, of a shorter recipe."""
    return changes(read("techniques_128px"), "added to `ablation/quick_classes_and_regression`")


def ablation() -> str:
    """Return `from_faces` with each of its parts changed or left out, with the paired differences of the scores."""
    return changes(read("ablation"), "`from_faces`, changed by")


def changes(runs: pd.DataFrame, title: str) -> str:
    """Return the first recipe, and each other one with the paired differences to it."""
    base = runs[runs.options == runs.options[0]].set_index("seed")
    rows = []
    for options, own in runs.groupby("options", sort=False):
        rows.append([f"`{options}`", spread(own.f1), *differences(own, base), f"{own.seconds.median():.0f}"])
    head = [title, "macro F1 (18)", *(f"{name}, difference" for name in TASKS.values()), "seconds"]
    return table(head, rows)


def seed_votes() -> str:
    """Return soft votes over the number of members, with the paired differences to one member of the same recipe."""
    rows = []
    votes = read("seed_votes")
    for (options, people), own in votes[~is_student(votes)].groupby(["options", "people"], sort=False):
        base = own[own.members == 1].set_index("seed")
        for count, voted in own[own.members.isin([1, 3, own.members.max()])].groupby("members"):
            cells = [spread(voted.f1), *differences(voted, base), f"{voted.seconds.mean():.0f}"]
            rows.append([f"`{options}`", str(people), span(voted.seed), str(count), *cells])
    names = (f"{name}, difference" for name in TASKS.values())
    head = ["members", "people", "splits", "number", "macro F1 (18)", *names, "seconds"]
    return table(head, rows)


def students() -> str:
    """Return networks that learned from an ensemble, with the paired differences to its members and its votes."""
    rows = []
    votes = read("seed_votes")
    for options, own in votes[is_student(votes)].groupby("options", sort=False):
        teachers = votes[votes.options == str(options).partition(" distill=")[0]]
        for count in (1, teachers.members.max()):
            base = teachers[teachers.members == count].set_index("seed")
            for members, voted in own.groupby("members"):
                cells = [spread(voted.f1), str(count), *differences(voted, base)]
                rows.append([f"`{options}`", span(voted.seed), str(members), *cells])
    head = ["students", "splits", "number", "macro F1 (18)", "difference to a vote of", *TASKS.values()]
    return table(head, rows)


def is_student(votes: pd.DataFrame) -> pd.Series:
    """Return whether the members of each row learned from teachers."""
    return votes.options.str.contains(" distill=")


def differences(runs: pd.DataFrame, base: pd.DataFrame) -> list[str]:
    """Return the paired difference of each score to `base`, with its standard error; empty texts for `base` itself."""
    found = [runs.set_index("seed")[column] - base[column] for column in TASKS]
    return [signed([each.mean(), each.sem()]) if each.any() else "" for each in found]


def span(seeds: pd.Series) -> str:
    """Return the first and the last seed: 10-14."""
    return f"{seeds.min()}-{seeds.max()}"


def learning_curve() -> str:
    """Return the scores over the number of training people, with and without face pretraining."""
    runs = read("learning_curve")
    return over_people(runs.assign(options="`" + runs.options + "`"), "options", "`experiment=`", TASKS)


def over_people(runs: pd.DataFrame, column: str, title: str, scores: dict[str, str]) -> str:
    """Return the scores for each value of a column, entitled `title`, and number of training people."""
    rows = [
        [str(value), str(people), *(spread(own[name]) for name in scores)]
        for (value, people), own in runs.groupby([column, "people"], sort=False)
    ]
    return table([title, "people", *scores.values()], rows)


PROBE_TASKS = {"f1": "macro F1 (18)", "mask": "mask", "gender": "gender", "age": "age"}


def probe_crops() -> str:
    """Return the probes on features of each crop mode, with the paired difference to the first one."""
    runs = read("probe_crops")
    base = runs[runs.crop == runs.crop[0]].set_index("seed").f1
    rows = []
    for crop, own in runs.groupby("crop", sort=False):
        difference = own.set_index("seed").f1 - base
        paired = signed([difference.mean(), difference.sem()]) if difference.any() else ""
        rows.append([str(crop), *(spread(own[name]) for name in PROBE_TASKS), paired])
    return table(["crop", *PROBE_TASKS.values(), "macro F1, difference"], rows)


def probe_curve() -> str:
    """Return the probes on features of two networks over the number of training people."""
    return over_people(read("probe_curve"), "weights", "features", PROBE_TASKS)


def masked_or_bare() -> str:
    """Return the scores of networks on photos of which only is known whether a mask is there."""
    runs = read("masked_or_bare")
    columns = {
        "balanced": "balanced accuracy",
        "masked_incorrect": "masked called incorrect",
        "masked_bare": "masked called bare",
        "bare_masked": "bare called masked",
    }
    rows = [
        [str(model), ", ".join(map(str, own.seed)), *(spread(own[column]) for column in columns)]
        for model, own in runs.groupby("model", sort=False)
    ]
    return table(["network", "seeds", *columns.values()], rows)


def exported_formats() -> str:
    """Return size, largest difference of a probability over all heads, and speed of each format relative to PyTorch."""
    rows = [
        [
            row["backbone"],
            row["format"],
            f"{max(row['differences'].values()):.1e}",
            f"{row['megabytes']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in load("bench_export")["rows"]
    ]
    return table(["backbone", "format", "largest difference", "MB", "speed"], rows)


def chaos() -> str:
    """Return each kind of damage with the number of losses."""
    harms = json.loads((RESULTS / "chaos.json").read_text())["harms"]
    rows = [[harm["harm"], f"{harm['tried']:,}", f"{harm['lost']:,}"] for harm in harms]
    return table(["damage", "tried", "lost"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "quick": quick,
    "quick by seed": quick_by_seed,
    "one factor": one_factor,
    "heads once": heads_once,
    "heads seeds": heads_seeds,
    "lr auto": lr_auto,
    "suspects": suspects,
    "ensembles": ensembles,
    "complementary labels": complementary_labels,
    "shared photos": shared_photos,
    "label issues": label_issues,
    "chosen votes": chosen_votes,
    "unstable splits": unstable_splits,
    "probe crops": probe_crops,
    "probe curve": probe_curve,
    "face pretraining": face_pretraining,
    "face pretraining by seed": face_pretraining_by_seed,
    "techniques": techniques,
    "techniques at 128 pixels": techniques_128px,
    "ablation": ablation,
    "seed votes": seed_votes,
    "students": students,
    "learning curve": learning_curve,
    "masked or bare": masked_or_bare,
    "exported formats": exported_formats,
    "targets": targets,
    "chaos": chaos,
}


def renew(text: str) -> str:
    """Return the text of a page with its tables computed again."""
    return BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + "\n\n" + block[3].strip("\n"), text)


def main() -> None:
    """Renew the tables of all pages, and name the pages that changed."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = renew(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"renewed {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
