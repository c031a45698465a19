"""What is ignored is, and a signal that the system lacks is no error."""

from __future__ import annotations

import signal

from mask_lightning.signals import ignore_signals


def test_signals_that_there_are_become_ignored() -> None:
    former = signal.getsignal(signal.SIGINT)
    try:
        ignore_signals("SIGINT", "SIGNOWHERE")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
