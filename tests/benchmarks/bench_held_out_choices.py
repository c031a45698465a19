"""Cost of choosing on held-out people: checkpoints, votes, soups, and splits that change.

    python tests/benchmarks/bench_held_out_choices.py WORK --root PHOTOS [--seeds 0 1 2] [--people 200] [--epochs 5]
    python tests/benchmarks/bench_held_out_choices.py WORK --results tests/benchmarks/results      only compute again

The photos are a folder in the competition's layout; three of a person's seven photos are used, one per mask state. For
each seed, `--people` are drawn, 3 % of their genders and 3 % of their age bands are changed (by a file of corrections;
the photos are not touched), and five folds are trained with `experiment=quick`. `--others` take no part in the
training. Three results:

label_issues.json: predictions out of fold by best.ckpt and by last.ckpt of the same runs; how well does
`metrics.label_issues` rank the changed labels with either? Wrong labels of the data itself count as false alarms.

chosen_votes.json: four of the five networks are members. The others are divided, in 50 ways, into held-out people and
200 people who tell the true score. Best member, weighted vote and greedy soup are chosen on the held-out people and
scored on them (in sample), on them by cross-fitting (as `vote` does), and on the other people. The hard vote and the
uniform soup, for which nothing is chosen, show what the number of people alone does to the score. All divisions of one
seed have the same members and people: their spread is not that of new members.

unstable_splits.json: 48 of 120 held-out people are replaced by others, in 2,000 draws, without training. The deviation
of the difference is what a split that is dealt anew, after one label was corrected, adds to a comparison of two runs.

Trained runs and predictions stay in WORK: after an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench_suspects import FIELDS, flip
from sklearn.metrics import average_precision_score

from mask_lightning.data.index import read_index
from mask_lightning.data.splits import draw_stratified
from mask_lightning.ensemble.cross_fit import cross_fit, person_folds, weights_by_score
from mask_lightning.ensemble.scoring import mean_score
from mask_lightning.ensemble.soups import SoupMember, choose_greedily, uniform_soup
from mask_lightning.ensemble.voting import vote_predictions
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.label_issues import find_issues, gather_labels
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import JOINT, macro_f1, people_of, score
from mask_lightning.pipelines.labelled import predict_labelled
from mask_lightning.pipelines.suspects import find_folds, join_folds
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.inference import InferenceSettings
from mask_lightning.utils.files import write_atomically, write_json

DATA = "fairmask; masks are composites, and all seven photos of a person come from one"
SIZE = 96
SHARE = 0.03  # labels that are changed, per task
SHOTS = ("incorrect_mask", "mask1", "normal")  # the other four show the same photo with other masks
MEMBERS = "0123"  # folds whose networks vote; five would need twice as many soups
CLEAN = 256  # photos that renew the BatchNorm statistics of a soup
TRUE_PEOPLE = 200
DIVISIONS = 50
HELD_OUT, REPLACED, DRAWS = 120, 48, 2000
CHECKPOINTS = ("best", "last")
TASKS = ("gender", "age")
MEASURES = ("f1", "mean_f1")
OPTIONS = InferenceSettings(accelerator="cpu", num_workers=0, progress=False)

Ints = npt.NDArray[np.int64]
Predict = Callable[[Ints, Ints], Predictions]  # (rows to choose on, rows to predict)

# --- training and predictions, once per seed ---


def people_of_seed(table: pd.DataFrame, seed: int, people: int, others: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photos of the people who train, and of those who take no part."""
    ids = np.random.default_rng(seed).permutation(np.sort(table["person_id"].unique()))
    if len(ids) < people + others or others <= TRUE_PEOPLE:
        raise SystemExit(
            f"expected {people} + {others} people, of these others more than {TRUE_PEOPLE}, found {len(ids)}"
        )
    parts = ids[:people], ids[people : people + others]
    train, rest = (table[table["person_id"].isin(part)].reset_index(drop=True) for part in parts)
    return train, rest


def train(folder: Path, table: pd.DataFrame, args: argparse.Namespace, seed: int) -> None:
    """Train the five folds on partly changed labels; runs that are finished are not repeated."""
    lines = flip(table, SHARE, seed)
    lines[lines["field"] != "mask"].to_csv(folder / "flipped.csv", index=False)
    named = table.assign(**{t.name: table[t.name].map(dict(enumerate(t.classes))) for t in FACE.tasks})
    named[["path", "person_id", *FACE.names]].to_csv(folder / "people.csv", index=False)
    command = [sys.executable, "-m", "mask_lightning.train", "-m", "experiment=quick", "labels=face", "data=table"]
    options: dict[str, object] = {
        "data.table": folder / "people.csv",
        "data.root": args.root.resolve(),
        "data.corrections": folder / "flipped.csv",
        "data.crop_height": 380,  # as data=competition
        "data.crop_width": 256,
        "data.folds": 5,
        "data.fold": "0,1,2,3,4",
        "data.num_workers": 0,
        "data.cache_dir": folder.parent / "cache",
        "data.clean_train_photos": 32,
        "seed": seed,
        "model.image_size": SIZE,
        "finetune.epochs": args.epochs,
        "trainer.validate_every": 1,
        "trainer.accelerator": "cpu",
        "trainer.progress": "false",
        "logger": "none",
        "outputs": folder / "outputs",
    }
    subprocess.run(
        [*command, *(f"{name}={value}" for name, value in options.items())],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def runs_of(folder: Path) -> list[RunFolder]:
    """Runs of the folds, in their order."""
    return find_folds([folder / "outputs" / "sweeps"])


def predict_folds(folder: Path) -> None:
    """Predict out of fold with both checkpoints of each run; the targets are the partly changed labels."""
    both = [predict_labelled([run.best, run.last], OPTIONS) for run in runs_of(folder)]
    for i, name in enumerate(CHECKPOINTS):
        write_predictions(folder / f"{name}.parquet", join_folds([parts[i].predictions for parts in both]))


def predict_mixtures(folder: Path, table: pd.DataFrame, others: pd.DataFrame) -> None:
    """Predict the others with each member (best.ckpt, as `vote` does) and with the soup of every subset of them."""
    runs = runs_of(folder)
    members = [SoupMember(name, load_trained(runs[int(name)].best, choose_device("cpu")), 0.0) for name in MEMBERS]
    clean = draw_stratified(table, CLEAN, strata=FACE.names, seed=0)
    subsets = [several for n in range(1, len(members) + 1) for several in combinations(members, n)]
    made: dict[str, Trained] = {f"member_{each.name}": each.network for each in members}
    made |= {_soup_file(each.name for each in several): uniform_soup(several, clean).network for several in subsets}
    parts = predict_many(list(made.values()), others, num_workers=0)  # one pass: each photo is decoded once
    for name, part in zip(made, parts, strict=True):
        (folder / "mixtures").mkdir(exist_ok=True)
        write_predictions(folder / "mixtures" / f"{name}.parquet", part)


def _soup_file(names: Iterable[str]) -> str:
    return "soup_" + "".join(sorted(names))


def prepare(args: argparse.Namespace) -> None:
    """Train and predict for each seed what WORK does not have yet; soups last, as they add to one result only."""
    index = read_index(args.root.resolve())
    index = index[index["shot"].isin(SHOTS)]
    people = {seed: people_of_seed(index, seed, args.people, args.others) for seed in args.seeds}
    folders = {seed: args.work.resolve() / f"seed{seed}" for seed in args.seeds}
    for seed, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "recipe.json", {name: getattr(args, name) for name in ("people", "others", "epochs")})
        if not (folder / "last.parquet").is_file():
            train(folder, people[seed][0], args, seed)
            predict_folds(folder)
    for seed, folder in folders.items():
        if not (folder / "mixtures" / f"{_soup_file(MEMBERS)}.parquet").is_file():
            predict_mixtures(folder, *people[seed])


# --- A: label issues by best.ckpt and last.ckpt ---


def label_issues(folder: Path) -> dict[str, Any]:
    """Task -> changed labels, and for each checkpoint how well they are found."""
    lines = pd.read_csv(folder / "flipped.csv", dtype=str)
    parts = {name: read_predictions(folder / f"{name}.parquet") for name in CHECKPOINTS}
    return {
        task: {
            "changed": int((lines["field"] == FIELDS[task]).sum()),
            **{
                name: rank(part, task, set(lines.person_id[lines.field == FIELDS[task]]))
                for name, part in parts.items()
            },
        }
        for task in TASKS
    }


def rank(predictions: Predictions, task: str, changed: set[str]) -> dict[str, float]:
    """Score the ranking of a task's labels: the issues, the worst first, then all others by their probability.

    Returns:
        `average_precision`; `precision`, equal to recall, of the first as many as were changed; `found_below_share`:
        changed labels in the list of `suspects share=0.05`; `agreement` of networks and (partly changed) labels.
    """
    issues = next(each for each in find_issues(predictions) if each.task.name == task)
    labels = gather_labels(predictions, FACE[task])
    given = labels.table["given"].to_numpy()
    people = labels.table["person_id"].to_numpy()
    by_prob = people[np.argsort(labels.probs[np.arange(len(given)), given], kind="stable")]
    ranking = list(dict.fromkeys([*(issue.person_id for issue in issues.listed), *by_prob]))
    is_changed = np.array([person in changed for person in ranking])
    top = math.ceil(0.05 * len(ranking))
    return {
        "average_precision": round(float(average_precision_score(is_changed, -np.arange(len(ranking)))), 4),
        "precision": round(float(is_changed[: len(changed)].mean()), 4),
        "found_in_5_percent": int(is_changed[: min(top, len(issues.listed))].sum()),
        "agreement": round(issues.agreement, 4),
    }


# --- B: choices on held-out people ---


def choices(folder: Path) -> pd.DataFrame:
    """One row per division, choice and metric: in-sample and cross-fitted score, and that on the other people."""
    read = cache(lambda name: read_predictions(folder / "mixtures" / f"{name}.parquet"))
    own = {name: read(f"member_{name}") for name in MEMBERS}
    people = people_of(own[MEMBERS[0]])
    ids = np.unique(people)
    rows = []
    for division in range(DIVISIONS):
        chosen = np.random.default_rng(division).permutation(ids)[TRUE_PEOPLE:]
        held, rest = np.flatnonzero(np.isin(people, chosen)), np.flatnonzero(~np.isin(people, chosen))
        fold = person_folds(own[MEMBERS[0]].select(held))
        assert fold is not None
        for kind, predict in predictors(own, lambda several: read(_soup_file(several))).items():
            fitted = cross_fit(fold, lambda others, part, predict=predict, held=held: predict(held[others], held[part]))
            scores = {
                "in_sample": measures(predict(held, held)),
                "cross_fitted": measures(fitted),
                "other_people": measures(predict(held, rest)),
            }
            rows += [
                {"division": division, "kind": kind, "metric": metric, **{on: scores[on][metric] for on in scores}}
                for metric in MEASURES
            ]
    return pd.DataFrame(rows)


def predictors(own: Mapping[str, Predictions], soup: Callable[[Sequence[str]], Predictions]) -> dict[str, Predict]:
    """Each kind of vote or soup as a function; the hard vote and the uniform soup ignore the rows to choose on."""
    parts = list(own.values())

    def best(on: Ints, rows: Ints) -> Predictions:
        return max(parts, key=lambda part: mean_score(part.select(on))).select(rows)

    def weighted(on: Ints, rows: Ints) -> Predictions:
        weights = weights_by_score([part.select(on) for part in parts])
        return vote_predictions([part.select(rows) for part in parts], kind="hard", weights=weights).predictions

    def greedy(on: Ints, rows: Ints) -> Predictions:
        network: Any = None  # the soups are known already
        scored = [SoupMember(name, network, mean_score(part.select(on))) for name, part in own.items()]
        several, mixed = choose_greedily(
            scored, lambda several: mean_score(soup([each.name for each in several]).select(on))
        )
        return (soup([each.name for each in several]) if mixed else own[several[0].name]).select(rows)

    return {
        "hard vote": lambda on, rows: vote_predictions([part.select(rows) for part in parts], kind="hard").predictions,
        "weighted vote": weighted,
        "best member": best,
        "uniform soup": lambda on, rows: soup(list(own)).select(rows),
        "greedy soup": greedy,
    }


def measures(predictions: Predictions) -> dict[str, float]:
    """Macro F1 of the 18 classes, and the mean of the three tasks' macro F1, by which soups are chosen."""
    return {"f1": score(predictions)[JOINT].f1, "mean_f1": mean_score(predictions)}


def stored_choices(folder: Path) -> pd.DataFrame:
    """Return the result of `choices`, from WORK if it is there."""
    path = folder / "choices.csv"
    if not path.is_file():
        write_atomically(path, choices(folder).to_csv(index=False).encode())
    return pd.read_csv(path)


def summarise_choices(table: pd.DataFrame) -> dict[str, Any]:
    """Means over the divisions, and the mean and deviation (over divisions) of what is reported beyond the truth."""
    found: dict[str, Any] = {}
    for (kind, metric), own in table.groupby(["kind", "metric"], sort=False):
        minus = {on: own[on] - own["other_people"] for on in ("in_sample", "cross_fitted")}
        paired = own["in_sample"] - own["cross_fitted"]
        found.setdefault(str(kind), {})[str(metric)] = {
            **{on: round(float(own[on].mean()), 4) for on in ("in_sample", "cross_fitted", "other_people")},
            **{
                f"{on}_minus_true": [round(float(each.mean()), 4), round(float(each.std()), 4)]
                for on, each in minus.items()
            },
            "in_sample_minus_cross_fitted": [round(float(paired.mean()), 4), round(float(paired.std()), 4)],
        }
    return found


# --- C: splits that change ---


def unstable(folder: Path, seed: int) -> dict[str, Any]:
    """Deviations for two pairs of models: both checkpoints out of fold, and two members on the others."""
    truth = pd.read_csv(folder / "people.csv", dtype={"person_id": str}).set_index("path")
    found: dict[str, Any] = {}
    folds = [read_predictions(folder / f"{name}.parquet") for name in CHECKPOINTS]
    labels = truth.loc[folds[0].photos["path"]]  # the targets of the predictions are partly changed
    unchanged = {t.name: labels[t.name].map(t.classes.index).to_numpy(np.int64) for t in FACE.tasks}
    found["best_and_last"] = deviations([replace(each, targets=unchanged) for each in folds], seed)
    if (folder / "mixtures").is_dir():
        members = [read_predictions(folder / "mixtures" / f"member_{name}.parquet") for name in MEMBERS[:2]]
        found["two_members"] = deviations(members, seed)
    return found


def deviations(pair: Sequence[Predictions], seed: int) -> dict[str, Any]:
    """Standard deviations of macro F1 (18) over draws of held-out people, for two models and the same photos."""
    first, second = (count_by_person(each) for each in pair)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(first), (DRAWS, HELD_OUT + REPLACED))  # with replacement, as if from more people
    times = [
        np.stack([np.bincount(drawn, minlength=len(first)) for drawn in part])  # each person in each draw (DRAWS, P)
        for part in (draws[:, :HELD_OUT], draws[:, REPLACED:])
    ]
    one, two, one_other, two_other = (
        macro_f1(np.tensordot(each, counts, axes=1)) for each in times for counts in (first, second)
    )
    return {
        "people": len(first),
        "f1": [round(float(each.mean()), 4) for each in (one, two)],
        "deviation_of_f1": round(float(one.std()), 4),
        "deviation_replaced": round(float((one - one_other).std()), 4),
        "deviation_same_people": round(float((one - two).std()), 4),
        "deviation_both": round(float((one - two_other).std()), 4),
    }


def count_by_person(predictions: Predictions) -> Ints:
    """Confusion matrices of the 18 classes (P, 18, 18), by person."""
    _, person = np.unique(people_of(predictions), return_inverse=True)
    counts = np.zeros((person.max() + 1, FACE.num_codes, FACE.num_codes), np.int64)
    np.add.at(counts, (person, FACE.encode(predictions.targets), predictions.codes), 1)
    return counts


# --- results ---


def mean_and_error(values: Sequence[float]) -> list[float | None]:
    """Return the mean and its standard error over the seeds; None for the error of a single seed."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
    return [round(float(np.mean(values)), 4), None if error is None else round(float(error), 4)]


def recipe(args: argparse.Namespace, folders: Mapping[int, Path]) -> dict[str, Any]:
    """Return what all three results state about data and training."""
    recipes = [json.loads((folder / "recipe.json").read_text()) for folder in folders.values()]
    if any(each != recipes[0] for each in recipes):
        raise SystemExit(f"expected seeds of one recipe in {args.work}, found {recipes}; use another folder")
    return {
        "data": DATA,
        "recipe": f"experiment=quick (lite0) data.folds=5 model.image_size={SIZE} "
        f"finetune.epochs={recipes[0]['epochs']} trainer.validate_every=1",
        "photos_per_person": len(SHOTS),
        "people_in_folds": recipes[0]["people"],
        "people_who_took_no_part": recipes[0]["others"],
        "seeds": list(folders),
    }


def results(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name of the file -> content, from the seeds that are complete."""
    found = {seed: args.work.resolve() / f"seed{seed}" for seed in args.seeds}
    folders = {seed: each for seed, each in found.items() if (each / "last.parquet").is_file()}
    shared = recipe(args, folders)
    issues = {seed: label_issues(folder) for seed, folder in folders.items()}
    epochs = {seed: [run.read_result().best_epoch for run in runs_of(folder)] for seed, folder in folders.items()}
    made: dict[str, dict[str, Any]] = {
        "label_issues": {
            **shared,
            "changed_share": SHARE,
            "by_seed": [{"seed": seed, "best_epochs": epochs[seed], **issues[seed]} for seed in folders],
            "last_minus_best": {
                task: {
                    name: mean_and_error(
                        [each[task]["last"][name] - each[task]["best"][name] for each in issues.values()]
                    )
                    for name in ("average_precision", "precision", "agreement")
                }
                for task in TASKS
            },
            "values": "mean and standard error over the seeds",
        },
        "unstable_splits": {
            **shared,
            "held_out": HELD_OUT,
            "replaced": REPLACED,
            "draws": DRAWS,
            "by_seed": [{"seed": seed, **unstable(folder, seed)} for seed, folder in folders.items()],
            "values": "standard deviations over draws of people (with replacement), macro F1 of 18 classes; replaced: "
            "one model, two splits; same_people: difference of two models on one split; both: the same on two splits; "
            "best_and_last: both checkpoints, out of fold; two_members: networks of two folds, on other people",
        },
    }
    voted = {seed: folder for seed, folder in folders.items() if (folder / "mixtures").is_dir()}
    summaries = {seed: summarise_choices(stored_choices(folder)) for seed, folder in voted.items()}
    made["chosen_votes"] = {
        **shared,
        "seeds": list(voted),
        "members": f"best.ckpt of {len(MEMBERS)} of the five folds of a seed",
        "held_out": shared["people_who_took_no_part"] - TRUE_PEOPLE,
        "other_people": TRUE_PEOPLE,
        "divisions": DIVISIONS,
        "by_seed": [{"seed": seed, **summary} for seed, summary in summaries.items()],
        "over_seeds": {
            kind: {
                measure: {
                    name: mean_and_error([each[kind][measure][name][0] for each in summaries.values()])
                    for name in ("in_sample_minus_true", "cross_fitted_minus_true", "in_sample_minus_cross_fitted")
                }
                for measure in MEASURES
            }
            for kind in next(iter(summaries.values()), {})
        },
        "values": "by seed: means over the divisions of the same people, differences with their deviation over the "
        "divisions; over seeds: mean and standard error; f1: 18 classes, mean_f1: mean of the three tasks",
    }
    return made


def main() -> None:
    """Train and predict what is missing, then print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--root", type=Path, help="the photos; without it, nothing is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--others", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--results", type=Path, help="folder for the JSON files; without it, they are printed")
    args = parser.parse_args()
    if args.root:
        prepare(args)
    for name, content in results(args).items():
        if args.results:
            write_json(args.results / f"{name}.json", content)
        else:
            print(name, json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
