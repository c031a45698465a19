"""Contestants in processes of their own that take turns: whoever does not run is frozen, its workers with it.

A shared machine's speed drifts by a third within minutes, so that only times from turns close to each other compare;
and a loader's workers must not fetch the next batches for nothing while another contestant computes. POSIX only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TextIO

_voice: TextIO | None = None  # of a contestant: what was standard output


def pause(**said: Any) -> None:
    """End this process's turn: tell the referee, and freeze until the next one. The first pause ends the start."""
    global _voice
    if _voice is None:  # whatever else prints goes to stderr
        _voice = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    print(json.dumps(said), file=_voice, flush=True)
    os.killpg(0, signal.SIGSTOP)


class Contestant:
    """A command that calls `pause`, on its way to its first pause.

    Args:
        script: the Python file, and its arguments.
    """

    def __init__(self, *script: str) -> None:
        # A group of its own, in this session: if the referee dies, the system wakes and ends the frozen.
        command = [sys.executable, *script]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)
        self.script = script

    def wait(self) -> dict[str, Any]:
        """Until its pause: what it tells."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            raise SystemExit(f"{' '.join(self.script)} ended with {self.process.returncode}")
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def turn(self) -> tuple[float, dict[str, Any]]:
        """One turn: seconds by the clock, and what it tells."""
        start = perf_counter()
        os.killpg(self.process.pid, signal.SIGCONT)
        said = self.wait()
        return perf_counter() - start, said

    def end(self) -> None:
        """Kill it and its workers, wherever they are, unless it has ended."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


@contextmanager
def contest(scripts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Contestant]]:
    """Start all contestants, wait until each has paused, and end them afterwards."""
    contestants: dict[str, Contestant] = {}
    try:
        for name, script in scripts.items():
            contestants[name] = Contestant(*script)
        for contestant in contestants.values():
            contestant.wait()
        yield contestants
    finally:
        for contestant in contestants.values():
            contestant.end()
