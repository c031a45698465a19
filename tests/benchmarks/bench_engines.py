"""Photos per second of `predict`, from files to tables, with each engine and with int8.

    python tests/benchmarks/bench_engines.py [result.json] [--photos 1050] [--rounds 3] [--earlier FOLDER]

A run is trained for two batches (the weights do not change the speed) and exported as int8. The same drawn portraits of
384 x 512 pixels are then predicted in turns, in one process, with all cores: decoding, network, tables and submission.
The first round, which exports the network and checks it, is left out.

With `--earlier`, the `predict` of version 0.1 takes part, each round in a process of its own, and the others are
compared with it: `git worktree add FOLDER 38d93a9`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from mask_lightning.cli.compose import compose
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.settings.base import check
from mask_lightning.settings.inference import PredictSettings
from mask_lightning.synthetic.portraits import write_portraits

# The modules of version 0.1 have other names. The first prediction opens the caches and is left out.
EARLIER = """
import sys
from pathlib import Path
from time import perf_counter

root, out, *options = sys.argv[1:]
sys.path.insert(0, root)
from hydra import compose, initialize_config_dir
from mask_lightning import doors, prediction_runs
from mask_lightning.settings.checking import check
from mask_lightning.settings.predict import PredictSettings

with initialize_config_dir(f"{root}/conf", version_base="1.3"):
    settings = check(PredictSettings, doors.plain(compose("predict", overrides=options)))
for name in ("first", "second"):
    start = perf_counter()
    prediction_runs.predict_photos(settings, Path(out) / name)
print(perf_counter() - start)
"""


def run(*command: str) -> None:
    """Run a command of the package; end where it fails."""
    subprocess.run([sys.executable, "-m", "mask_lightning", *command], check=True, stdout=subprocess.DEVNULL)


def prepare(folder: Path, backbone: str, photos: int) -> dict[str, list[str]]:
    """Write photos, a run and its int8 exports; return the options of `predict` for each way."""
    write_portraits(folder / "portraits", people=photos // 7)
    images = folder / "portraits" / "train" / "images"
    network = (f"model.backbone={backbone}", "model.pretrained=false", "model.image_size=224", "logger=none")
    short = ("finetune=none", "finetune.epochs=1", "trainer.max_batches=2", "trainer.accelerator=cpu")
    place = (
        f"data.root={folder / 'portraits'}",
        f"outputs={folder}",
        f"hydra.run.dir={folder}/run",
        "trainer.progress=false",
    )
    run("train", *network, *short, *place)
    ways = {engine: [f"ckpt={folder}/run", f"engine={engine}"] for engine in ("torch", "auto", "onnx", "openvino")}
    for form in ("onnx", "openvino"):
        out = folder / f"int8_{form}"
        run("export", f"ckpt={folder}/run", f"format={form}", "precision=int8", f"out={out}", f"outputs={folder}")
        ways[f"int8_{form}"] = [f"ckpt={out}"]
    common = [f"data.root={images}", "accelerator=cpu", "progress=false", f"outputs={folder}"]
    return {way: options + common for way, options in ways.items()}


def photos_per_second(options: list[str], photos: int, out: Path) -> float:
    """Predict once, into the folder `out`."""
    settings = check(PredictSettings, compose("predict", PredictSettings, options))
    start = perf_counter()
    predict_photos(settings, out)
    return photos / (perf_counter() - start)


def train_earlier(root: Path, folder: Path, backbone: str) -> list[str]:
    """Train a run with version 0.1 in the folder `root`, and return the options of its `predict`."""
    options = ("finetune=none", "finetune.epochs=1", "trainer.max_batches=2", "trainer.accelerator=cpu", "logger=none")
    network = (f"model.backbone={backbone}", "model.pretrained=false", "model.image_size=224", "trainer.progress=false")
    place = (f"data.root={folder / 'portraits'}", f"outputs={folder}", f"hydra.run.dir={folder}/earlier")
    command = [sys.executable, "-W", "ignore", "-m", "mask_lightning.train", *network, *options, *place]
    subprocess.run(
        command, check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL
    )
    images = folder / "portraits" / "train" / "images"
    return [f"ckpt={folder}/earlier", f"data.root={images}", "accelerator=cpu", "progress=false", f"outputs={folder}"]


def earlier_photos_per_second(root: Path, options: list[str], photos: int, out: Path) -> float:
    """Predict with version 0.1, into the folder `out`."""
    command = [sys.executable, "-W", "ignore", "-c", EARLIER, str(root), str(out), *options]
    done = subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE, text=True)
    return photos / float(done.stdout.split()[-1])


def main() -> None:
    """Print the rates and their ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=1050, help="a multiple of 7; `auto` needs 1,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--earlier", type=Path, help="a checkout of version 0.1")
    args = parser.parse_args()
    base = "earlier" if args.earlier else "torch"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = prepare(folder, args.backbone, args.photos)
        earlier = train_earlier(args.earlier, folder, args.backbone) if args.earlier else []
        rounds = []
        for i in range(args.rounds + 1):
            rates = {way: photos_per_second(each, args.photos, folder / f"{way}_{i}") for way, each in ways.items()}
            if args.earlier:
                out = folder / f"earlier_{i}"
                rates["earlier"] = earlier_photos_per_second(args.earlier, earlier, args.photos, out)
            rounds.append(rates)
        rounds = rounds[1:]
    ratios = {way: statistics.median(each[way] / each[base] for each in rounds) for way in rounds[0]}
    int8 = max(ratios["int8_onnx"], ratios["int8_openvino"])
    facts = {
        "backbone": args.backbone,
        "photos": args.photos,
        "photos_per_s": {way: round(statistics.median(each[way] for each in rounds), 1) for way in rounds[0]},
        f"over_{base}": {way: round(ratio, 2) for way, ratio in ratios.items()},
        "bars": [
            {"what": f"predict with auto over {base}, photos/s", "value": round(ratios["auto"], 2), "at_least": 1.6},
            {"what": f"predict with int8 over {base}, photos/s", "value": round(int8, 2), "at_least": 3},
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
