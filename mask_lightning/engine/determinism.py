"""Let a device compute as fast as possible, or bit-identically for the same seed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from mask_lightning.errors import ConfigError, one_line

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
COMPILERS = ("torch._dynamo", "torch._inductor")  # modules of the errors of torch.compile


@contextmanager
def device_math(*, cuda: bool, deterministic: bool) -> Iterator[None]:
    """Set how torch computes within the block, and restore it afterwards, except for cuBLAS's workspace.

    On CUDA the block uses TF32, which rounds the factors of a matrix product to ten bits, always in the same way. It
    also uses either cuDNN's fastest or only deterministic algorithms; see
    https://pytorch.org/docs/stable/notes/randomness.html

    Args:
        cuda: the block computes on CUDA.
        deterministic: the same seed must give the same bits. On a CPU it does anyway.

    Raises:
        ConfigError: an operation has no deterministic implementation, the network cannot be compiled, or a batch of one
            photo leaves BatchNorm nothing to compute statistics of.

    Example:
        >>> with device_math(cuda=False, deterministic=True):
        ...     torch.are_deterministic_algorithms_enabled()
        True
    """
    with ExitStack() as undo:
        if deterministic:
            undo.enter_context(_deterministic_algorithms())
        if cuda:
            undo.enter_context(_fast_cuda(benchmark=not torch.are_deterministic_algorithms_enabled()))
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if reason := _explain(error):
                raise ConfigError(reason) from error
            raise


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _fast_cuda(*, benchmark: bool) -> Iterator[None]:
    # Set it always: torch reads it once, at the first matrix product, and a later block may be deterministic.
    os.environ.setdefault(*WORKSPACE)
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, torch.get_float32_matmul_precision()
    cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


def _explain(error: Exception) -> str | None:
    """Explain an error that follows from the user's options, and what to do; None for other errors."""
    if isinstance(error, ValueError):
        if "more than 1 value per channel" not in str(error):
            return None
        return (
            "BatchNorm needs more than one photo per batch and process at this size of photos, found a batch of one; "
            "set data.batch_size to at least 2 per process, and train on at least 2 photos"
        )
    if operation := re.search(r"(\S+) does not have a deterministic implementation", str(error)):
        return f"torch has no deterministic {operation[1]}; set trainer.deterministic=false"
    if WORKSPACE[0] in str(error):
        return (
            f"trainer.deterministic=true needs {'='.join(WORKSPACE)}, but this process has already computed on the GPU "
            "without it; set it in the environment before Python starts, or set trainer.deterministic=false"
        )
    if type(error).__module__.startswith(COMPILERS):
        return f"torch cannot compile this network here ({one_line(str(error), most=300)}); set model.compile=false"
    return None
