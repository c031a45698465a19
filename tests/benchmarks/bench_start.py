"""Seconds that a user waits: for `--help`, and for the first training step with a warm cache.

    python tests/benchmarks/bench_start.py [result.json] [--root PHOTOS] [--rounds 5] [--model lite0]

By the clock, as that is what is waited for: the machine must be idle. PyTorch's own hook after an optimizer's step
tells when the first one is done; the command is an ordinary training but for that, on drawn portraits unless a
competition's folder is named. Both take turns; the first round, which fills the photo cache and the system's, is left
out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch

from mask_lightning.synthetic.portraits import write_portraits

# Loads torch before anything else, which the command does anyway before its first step.
TELLS_ITS_STEP = """
import os, runpy, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

def tell(*_):
    os.write(told, b"step\\n")

told = os.dup(1)
os.dup2(2, 1)
register_optimizer_step_post_hook(tell)
sys.argv[0] = "mask_lightning.train"
runpy.run_module("mask_lightning.train", run_name="__main__")
"""
OPTIONS = ("finetune=none", "finetune.epochs=1", "trainer.accelerator=cpu", "trainer.progress=false")


def seconds_to_help() -> float:
    """Return the seconds that `train --help` takes."""
    start = perf_counter()
    subprocess.run([sys.executable, "-m", "mask_lightning.train", "--help"], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def seconds_to_step(options: Sequence[str]) -> float:
    """Return the seconds until a training has done its first optimizer step; it is killed then."""
    start = perf_counter()
    command = [sys.executable, "-c", TELLS_ITS_STEP, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        took = perf_counter() - start
        if not told:
            raise SystemExit(f"the training ended with {process.wait()} before its first step")
        os.killpg(process.pid, signal.SIGKILL)  # its workers, too
    return took


def main() -> None:
    """Print seconds; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--model", default="lite0")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    helps, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or write_portraits(Path(folder) / "portraits")
        options = [
            "data=competition",
            f"data.root={root}",
            f"outputs={folder}/outputs",
            f"model={args.model}",
            *OPTIONS,
        ]
        for _ in range(args.rounds + 1):
            helps.append(seconds_to_help())
            steps.append(seconds_to_step(options))
    to_help, to_step = statistics.median(helps[1:]), statistics.median(steps[1:])
    facts = {
        "root": args.root.name if args.root else "drawn portraits",
        "model": args.model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "to_help_s": [round(each, 2) for each in helps],
        "to_first_step_s": [round(each, 2) for each in steps],
        "bars": [
            {"what": "seconds to train --help", "value": round(to_help, 2), "at_most": 4},
            {"what": "seconds to the first training step", "value": round(to_step, 2), "at_most": 12},
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
