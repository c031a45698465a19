"""Training steps end to end against the bare step, a loop by hand, and fastai: photos/s as ratios.

    python tests/benchmarks/bench_training.py [result.json] [--root PHOTOS] [--models lite0 ...] [--rounds 3]

All train on the same photos with the same crop, size, RandAugment(3, 6), batches of 32 and AdamW, from random weights,
on a CPU. They take turns of four steps within one run, frozen between them (turns.py). Counted is the clock, not
computing, because a network that waits for its photos is just what should show: the machine must be idle. The first
turn, which starts workers and makes kernels and buffers, is left out; so long a turn, as the first four steps are slow:
of lite0 1.3, 0.7, 0.9 and 0.9 s, then 0.7. Without fastai (extra `bench`) its figures are missing.

ours: from a warm cache. by_hand: photos prepared beforehand, in memory. fastai: decodes, on as many workers as cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from turns import Contestant, contest

from mask_lightning.cli.compose import compose
from mask_lightning.pipelines.prepare import prepare_run
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.synthetic.portraits import write_portraits

LOOPS = str(Path(__file__).with_name("training_loops.py"))
PEERS_AT_ONCE = {"lite0": 4, "resnet34": 4, "effb2": 1}  # beside ours: each holds 2 to 3 GB, or 7 of effb2
AHEAD = 4  # batches that nobody trains on, as workers fetch them in advance
BATCH = 32
STEPS = 4  # a turn
OPTIONS = (
    "data=competition",
    "data.val_fraction=0",
    "model.pretrained=false",
    "augment=randaugment",
    "optim=adamw",
    "schedule=one_cycle",
    "finetune=none",
    "finetune.epochs=1000",
    "trainer.validate_every=end",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
# peer -> model -> how many times its photos/s ours should reach
BARS = {
    "bare": {"lite0": 0.95, "resnet34": 0.95, "effb2": 0.95},
    "by_hand": {"lite0": 1.0, "resnet34": 1.0, "effb2": 1.0},
    "fastai": {"lite0": 1.3, "resnet34": 1.0, "effb2": 1.3},
    "fastai_channels_last": {"lite0": 1.0, "effb2": 1.0},
}
TWO_PHASES = ("finetune=two_phase", "finetune.frozen_epochs=1000", "finetune.epochs=1")
PHASE_ONE = "ours_phase_one"  # the top six blocks and the heads: of the model that the original entry trained so


Times = dict[str, tuple[list[float], list[float]]]  # peer -> seconds of its turns, and of ours in the same rounds


def seconds_per_turn(model: str, options: list[str], folder: Path, rounds: int) -> Times:
    """Ours with as many peers at a time as the machine's memory bears."""
    overrides = [*OPTIONS, *options, f"model={model}", f"outputs={folder}"]
    settings = check(TrainSettings, compose("train", TrainSettings, overrides))
    prepare_run(settings)  # fills the cache
    scripts = {peer: [LOOPS, peer, str(folder / peer), *overrides] for peer in peers_of(model)}
    if model == "resnet34":
        phases = [each for each in overrides if not each.startswith("finetune")]
        scripts[PHASE_ONE] = [LOOPS, "ours", str(folder / PHASE_ONE), *phases, *TWO_PHASES]
    ours = [LOOPS, "ours", str(folder / "ours"), *overrides]
    times: Times = {}
    for some in batched(scripts.items(), PEERS_AT_ONCE[model]):
        own, *others = take_turns([ours, *(script for _, script in some)], rounds)
        times |= {peer: (seconds, own) for (peer, _), seconds in zip(some, others, strict=True)}
    return times


def peers_of(model: str) -> list[str]:
    """Whom a model's figures are compared with, of those that are installed."""
    return [peer for peer, bars in BARS.items() if model in bars and (find_spec("fastai") or "fastai" not in peer)]


def batched(items: Iterable[tuple[str, list[str]]], size: int) -> Iterator[list[tuple[str, list[str]]]]:
    """Up to `size` items at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def take_turns(scripts: list[list[str]], rounds: int) -> list[list[float]]:
    """Seconds of each one's turns."""
    with contest({str(i): script for i, script in enumerate(scripts)}) as contestants:
        turns = [[steps(contestant) for contestant in contestants.values()] for _ in range(rounds + 1)]
    return [list(each) for each in zip(*turns[1:], strict=True)]


def steps(contestant: Contestant) -> float:
    """Seconds of a turn."""
    return sum(contestant.turn()[0] for _ in range(STEPS))


def ratio(times: list[float], others: list[float]) -> float:
    """Median over the rounds of time / other time."""
    return round(statistics.median(time / other for time, other in zip(times, others, strict=True)), 3)


def speeds_of(times: Times) -> dict[str, float]:
    """Photos per second of each."""
    seconds = {"ours": [second for _, own in times.values() for second in own]}
    seconds |= {peer: theirs for peer, (theirs, _) in times.items()}
    return {name: round(STEPS * BATCH / statistics.median(values), 2) for name, values in seconds.items()}


def bars_of(model: str, times: Times) -> list[dict[str, Any]]:
    """Return the limits that a model's figures must keep."""
    bars: list[dict[str, Any]] = []
    for peer, (theirs, own) in times.items():
        if peer == PHASE_ONE:
            share = ratio(theirs, own)
            bars.append({"what": f"{model}: a step of phase one over a full step", "value": share, "at_most": 0.55})
        else:
            what, value = f"{model}: photos/s over {peer}", ratio(theirs, own)
            bars.append({"what": what, "value": value, "at_least": BARS[peer][model]})
    return bars


def main() -> None:
    """Print photos per second and ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--models", nargs="+", choices=PEERS_AT_ONCE, default=list(PEERS_AT_ONCE))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, help="of photos; as each model has it where it is not given")
    args = parser.parse_args()
    if find_spec("fastai") is None:
        print("fastai is not installed (extra `bench`): compared without it", file=sys.stderr)

    speeds, bars = {}, []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        people = max(24, -(-((args.rounds + 1) * STEPS + AHEAD) * BATCH // 7))
        root = args.root or write_portraits(folder / "portraits", people=people)
        options = [f"data.root={root.resolve()}", f"data.limit_people={people}"]
        options += [f"model.image_size={args.size}"] if args.size else []
        for model in args.models:
            times = seconds_per_turn(model, options, folder, args.rounds)
            speeds[model] = speeds_of(times)
            bars += bars_of(model, times)
    facts = {
        "root": args.root.name if args.root else "drawn portraits",
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "photos_per_second": speeds,
        "bars": bars,
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
