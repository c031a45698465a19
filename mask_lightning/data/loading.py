"""Dataloaders whose worker processes use little memory, follow the trainer's signals, and fail with one line."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from mask_lightning.errors import PackedError, PhotoError, WorkerError
from mask_lightning.utils.system import ignore_signals, trim_memory

T = TypeVar("T", covariant=True)


class LeanLoader(DataLoader[T]):
    """DataLoader that returns free memory to the system before it forks its workers.

    A forked worker shares the trainer's pages until either process writes to them. A training step soon writes again to
    the memory that it has freed, and each worker would then keep a copy: gigabytes that it never uses.
    """

    _has_forked = False

    def __iter__(self) -> Any:
        """Iterate, trimming memory before workers start; persistent workers start once."""
        if self.num_workers and not (self.persistent_workers and self._has_forked):
            methods = multiprocessing.get_all_start_methods()  # the first is that of the system
            if multiprocessing.get_start_method() not in methods:  # "loky" in a job of joblib; torch cannot use it
                self.multiprocessing_context = methods[0]
            trim_memory()
            self._has_forked = True
        return super().__iter__()


def leave_signals_to_the_trainer(_: int) -> None:
    """Make a worker ignore signals that are meant for the trainer; to be used as `worker_init_fn`.

    A terminal or cluster sends its signals to all processes of a job, and only the trainer decides what happens then.
    On Linux a worker ends on a SIGTERM from the trainer, or from anyone once the trainer has ended. On other systems
    every SIGTERM ends it.
    """
    ignore_signals("SIGINT", "SIGUSR1", "SIGUSR2")
    trainer = multiprocessing.parent_process()
    if trainer is not None and hasattr(signal, "sigwaitinfo"):  # a Python signal handler does not learn the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_on_sigterm_from, args=[trainer], daemon=True).start()


def _exit_on_sigterm_from(trainer: BaseProcess) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != trainer.pid and trainer.is_alive():
        pass
    os._exit(0)


@contextmanager
def worker_errors_in_one_line() -> Iterator[None]:
    """Shorten the errors of loader workers in the block, which carry a traceback in their message.

    Raises:
        PhotoError, PackedError: a photo cannot be decoded, or read from its chunk.
        WorkerError: a worker was killed, usually by the system for lack of memory.
    """
    try:
        yield
    except (PhotoError, PackedError) as error:
        kind = type(error)
        raise kind(str(error).strip().rsplit(f"{kind.__name__}: ", 1)[-1]) from error
    except (RuntimeError, OSError, EOFError) as error:
        end = _end_of_worker(error)
        if end is None:
            raise
        raise WorkerError(
            f"a process that decodes photos {end}, most likely for lack of memory; "
            "set num_workers to fewer (0: decode in this process)"
        ) from error


def _end_of_worker(error: Exception) -> str | None:
    """Describe how a worker ended, from torch's message or from a batch that cannot be fetched; None if none ended."""
    match = re.search(r"DataLoader worker \(pid.*?\) (is killed by signal: [\w ]+|exited unexpectedly)", str(error))
    if match is not None:
        return match[1]
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    is_fetching = any(file.endswith("resource_sharer.py") for file in files)
    return "exited unexpectedly" if is_fetching else None
