"""Minutes of training until a score: the quick recipe, and fastai's best, from the same weights on the same people.

    python tests/benchmarks/bench_time_to_score.py [result.json] --root PHOTOS [--target 0.435] [--points 6] [--seed 0]

One third of the people train, two thirds judge (experiment=quick). All train in turns of ten steps within one run,
frozen between them (turns.py), so that the machine's drift hits all alike. Counted is the clock while they train, with
the making of our photo cache; what the judging takes is not counted. Draws the curves beside the JSON. The machine must
be idle; needs fastai (extra `bench`), and about half an hour for 600 people.

Where fastai itself stays below the target, its own best score is what ours must reach in half of its time.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from matplotlib.figure import Figure
from turns import Contestant, contest

LOOPS = str(Path(__file__).with_name("scoring_loops.py"))
QUICK = ("experiment=quick", "data=competition", "trainer.accelerator=cpu", "trainer.progress=false", "logger=none")
# name in the picture -> function in scoring_loops.py, and options beside those of quick
CONTESTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fastai": ("fastai", ()),
    "fastai, ChannelsLast": ("fastai_channels_last", ()),
    "quick": ("ours", ()),
    "quick, photos that grow": ("ours", ("finetune=progressive", "finetune.epochs=1")),
}
Curve = list[tuple[float, float]]  # minutes of training, macro F1


def race(scripts: Mapping[str, Sequence[str]]) -> dict[str, Curve]:
    """The curve of each."""
    curves: dict[str, Curve] = {name: [] for name in scripts}
    minutes = dict.fromkeys(scripts, 0.0)
    with contest(scripts) as contestants:
        running = dict(contestants)
        while running:
            for name, contestant in list(running.items()):
                spent, judged = train_a_little(contestant)
                minutes[name] += spent / 60
                if judged:
                    curves[name].append((round(minutes[name], 3), round(judged["f1"], 4)))
                    print(f"{name}: macro F1 {judged['f1']:.3f} after {minutes[name]:.2f} minutes", flush=True)
                    if judged["is_last"]:
                        running.pop(name).end()
    return curves


def train_a_little(contestant: Contestant) -> tuple[float, dict[str, float]]:
    """One turn: its seconds if it trained, or else what was judged."""
    seconds, said = contestant.turn()
    return (0.0, said) if said else (seconds, {})


def minutes_until(curve: Curve, target: float) -> float:
    """Until the first judging at or above the target; infinite where there is none."""
    return min((minutes for minutes, f1 in curve if f1 >= target), default=math.inf)


def draw(curves: Mapping[str, Curve], target: float, path: Path) -> None:
    """All curves in one picture."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(*zip((0.0, math.nan), *curve, strict=True), marker="o", markersize=4, label=name)
    axes.axhline(target, color="grey", linestyle="--", linewidth=1, label=f"target {target:.3f}")
    axes.set(xlabel="minutes of training", ylabel="macro F1 on held-out people", xlim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the curves; write them as JSON, and draw them beside it, where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--target", type=float, default=0.435)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", nargs="*", default=[], help="of all trainings: data.limit_people=30 to try it")
    args = parser.parse_args()
    if find_spec("fastai") is None:
        raise SystemExit("fastai is not installed, which this compares with; pip install -e '.[bench]'")

    with tempfile.TemporaryDirectory() as folder:
        options = [*QUICK, f"data.root={args.root.resolve()}", f"seed={args.seed}", *args.options]
        scripts = {
            name: [LOOPS, kind, str(folder), str(args.points), *options, f"outputs={folder}/{i}", *own]
            for i, (name, (kind, own)) in enumerate(CONTESTANTS.items())
        }
        curves = race(scripts)
    target = min(args.target, max(f1 for _, f1 in curves["fastai"]))
    until = {name: minutes_until(curve, target) for name, curve in curves.items()}
    ours = min(until[name] for name, (kind, _) in CONTESTANTS.items() if kind == "ours")
    what = f"minutes until macro F1 {target:.3f}, our fastest over fastai"
    facts = {
        "root": args.root.name,
        "seed": args.seed,
        "options": args.options,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "minutes_and_f1": curves,
        "minutes_until": {name: minutes if math.isfinite(minutes) else None for name, minutes in until.items()},
        "bars": [{"what": what, "value": round(ours / until["fastai"], 3), "at_most": 0.5}],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")
        draw(curves, target, args.path.with_suffix(".png"))


if __name__ == "__main__":
    main()
