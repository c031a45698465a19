"""Signals that a process leaves to the one that started it."""

from __future__ import annotations

import signal


def ignore_signals(*names: str) -> None:
    """Ignore those of the signals that the system has: a terminal and a cluster signal all processes of a job."""
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
