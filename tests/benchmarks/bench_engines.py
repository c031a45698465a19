"""Photos per second of `predict`, from files to tables, with each engine and with int8.

    python tests/benchmarks/bench_engines.py [result.json] [--photos 1050] [--rounds 3] [--backbone NAME]

A run is trained for two batches (the weights do not change the speed) and exported as int8. The same drawn portraits of
384 x 512 pixels are then predicted in turns, in one process, with all cores: decoding, network, tables and submission.
The first round, which exports the network and checks it, is left out.
"""

from __future__ import annotations

import argparse
import json
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


def main() -> None:
    """Print the rates and their ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=1050, help="a multiple of 7; `auto` needs 1,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = prepare(folder, args.backbone, args.photos)
        rounds = [
            {way: photos_per_second(options, args.photos, folder / f"{way}_{i}") for way, options in ways.items()}
            for i in range(args.rounds + 1)
        ][1:]
    over_torch = {way: statistics.median(each[way] / each["torch"] for each in rounds) for way in ways}
    int8 = max(over_torch["int8_onnx"], over_torch["int8_openvino"])
    facts = {
        "backbone": args.backbone,
        "photos": args.photos,
        "photos_per_s": {way: round(statistics.median(each[way] for each in rounds), 1) for way in ways},
        "over_torch": {way: round(ratio, 2) for way, ratio in over_torch.items()},
        "bars": [
            {"what": "predict with auto over torch, photos/s", "value": round(over_torch["auto"], 2), "at_least": 1.6},
            {"what": "predict with int8 over torch, photos/s", "value": round(int8, 2), "at_least": 3},
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
