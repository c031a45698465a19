"""Freed memory stays in the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from mask_lightning.memory import keep_memory

COUNT_FAULTS = """
import resource, sys
from mask_lightning.memory import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**26)
before = faults()
for _ in range(5):
    bytearray(b"1") * 2**26
print(faults() - before)
"""


def faults(how: str) -> int:
    """Page faults of making and freeing 64 MiB five times."""
    return int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_system_is_asked_for_large_blocks_once() -> None:
    assert faults("keep") < faults("do not") / 3


def test_another_c_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: object) -> None:
        raise OSError("no C library")

    monkeypatch.setattr("ctypes.CDLL", none)
    keep_memory()
