"""Ranger's step on a timm model's tensors against its parent's: time as a ratio, and dispatched operations.

    python tests/benchmarks/bench_ranger.py [result.json] [--model NAME] [--device cpu] [--rounds 5]

Both optimizers step in turns within one run, because only ratios from one run count on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
import torch_optimizer
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from mask_lightning.optim.ranger import Ranger

STEPS = 12  # two lookahead periods of k = 6


class CountOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts aten operations, each a kernel launch on a GPU; a `_foreach_` one is a few."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "aten"
        return func(*args, **(kwargs or {}))


def tensors(model: str, device: str) -> list[nn.Parameter]:
    """The model's params with random grads."""
    torch.manual_seed(0)
    params = list(timm.create_model(model, pretrained=False).to(device).parameters())
    for param in params:
        param.grad = torch.randn_like(param)
    return params


def build(kind: type[Optimizer], params: list[nn.Parameter], groups: int) -> Optimizer:
    """The optimizer over `groups` param groups, past RAdam's first, unrectified steps."""
    size = -(-len(params) // groups)
    parts = [{"params": params[i : i + size]} for i in range(0, len(params), size)]
    optimizer = kind(parts, lr=1e-3, weight_decay=1e-2)  # type: ignore[call-arg]
    for _ in range(STEPS):
        optimizer.step()
    return optimizer


def seconds_per_step(optimizer: Optimizer, device: str) -> float:
    """Mean over two lookahead periods."""
    start = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    if device != "cpu":
        torch.accelerator.synchronize()
    return (time.perf_counter() - start) / STEPS


def ops_per_step(optimizer: Optimizer) -> float:
    """Mean over two lookahead periods; on "meta" tensors they are those of an accelerator."""
    with CountOps() as counter:
        for _ in range(STEPS):
            optimizer.step()
    return float(counter.count) / STEPS


def compare(model: str, device: str, rounds: int, groups: int) -> dict[str, float]:
    """One row of the table: medians over `rounds` in which both take turns."""
    kinds: dict[str, type[Optimizer]] = {"parent": torch_optimizer.Ranger, "ours": Ranger}
    optimizers = {name: build(kind, tensors(model, device), groups) for name, kind in kinds.items()}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            times[name].append(seconds_per_step(optimizer, device))
    milliseconds = {f"{name}_ms": 1000 * statistics.median(times[name]) for name in kinds}
    ratios = [parent / ours for parent, ours in zip(times["parent"], times["ours"], strict=True)]
    ops = {f"{name}_ops": ops_per_step(optimizer) for name, optimizer in optimizers.items()}
    accelerator = ops_per_step(build(Ranger, tensors(model, "meta"), groups))
    speedup = statistics.median(ratios)
    return {"groups": groups, **milliseconds, "speedup": speedup, **ops, "ours_ops_accelerator": accelerator}


def main() -> None:
    """Print the table; write it as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--model", default="efficientnet_b2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="(?s).*This overload of add")  # the parent's

    rows = [compare(args.model, args.device, args.rounds, groups) for groups in (1, 18)]
    count = len(tensors(args.model, "cpu"))
    threads, version = torch.get_num_threads(), torch.__version__
    print(f"{args.model}, {count} tensors, {args.device}, {threads} threads, torch {version}")
    print(
        f"{'groups':>6} {'parent ms':>10} {'ours ms':>8} {'speedup':>8} {'parent ops':>11} {'ours ops':>9} "
        f"{'on a GPU':>9}"
    )
    for row in rows:
        print(
            f"{row['groups']:>6} {row['parent_ms']:>10.1f} {row['ours_ms']:>8.1f} {row['speedup']:>8.2f} "
            f"{row['parent_ops']:>11.1f} {row['ours_ops']:>9.1f} {row['ours_ops_accelerator']:>9.1f}"
        )
    if args.path is not None:
        facts = {"model": args.model, "tensors": count, "device": args.device, "threads": threads}
        bars = [
            {
                "what": f"step over its parent's, {row['groups']} groups",
                "value": round(row["speedup"], 3),
                "at_least": 1.0,
            }
            for row in rows
        ]
        args.path.write_text(json.dumps({**facts, "torch": version, "rows": rows, "bars": bars}, indent=2) + "\n")


if __name__ == "__main__":
    main()
