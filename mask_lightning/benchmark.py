"""Measure throughput, latency, memory and score of a trained run per engine and precision."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.export import BenchmarkSettings


def main(settings: BenchmarkSettings, job: Job) -> None:
    """Write benchmark.json and a plot of score against speed."""
    from mask_lightning.pipelines.benchmark import run_benchmark

    run_benchmark(settings, job.folder)


if __name__ == "__main__":
    run_command("benchmark", BenchmarkSettings, main)
