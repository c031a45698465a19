"""Run every benchmark, keep its figures as JSON, and put those with a bar into one table: `make bench`.

    python tests/benchmarks/run_all.py [NAME ...]      all, or these: input memory

A benchmark is a `bench_<name>.py` that takes the path of its JSON as its first argument. Its figures have a bar where
the JSON has `bars`: a list of {"what", "value", and "at_least" or "at_most"}.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
STUDIES = {"export", "faces", "held_out_choices", "suspects", "time_to_score"}  # need photos, some train for long


def table(results: dict[str, dict[str, Any]]) -> str:
    """Name -> JSON of each benchmark, as a Markdown table of all figures that have a bar."""
    lines = ["| benchmark | figure | measured | bar | |", "|---|---|---|---|---|"]
    for name, result in sorted(results.items()):
        for bar in result.get("bars", ()):
            least, most, value = bar.get("at_least"), bar.get("at_most"), bar["value"]
            met = value >= least if least is not None else value <= most
            wanted = f">= {least:g}" if least is not None else f"<= {most:g}"
            lines.append(f"| {name} | {bar['what']} | {value:g} | {wanted} | {'met' if met else '**not met**'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print the table, and keep it as results/table.md; end with 1 where a benchmark failed."""
    known = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    chosen = sys.argv[1:] or [name for name in known if name not in STUDIES]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise SystemExit(f"there is no benchmark {unknown[0]}; choose from {', '.join(known)}")
    failed = []
    for name in chosen:
        print(f"== {name}", file=sys.stderr)
        command = [sys.executable, str(HERE / f"bench_{name}.py"), str(RESULTS / f"bench_{name}.json")]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    written = table({path.stem.removeprefix("bench_"): json.loads(path.read_text()) for path in RESULTS.glob("*.json")})
    (RESULTS / "table.md").write_text(written)
    print(written)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
