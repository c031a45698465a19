"""A checkpoint's file: whole or absent, and read without running code that it may hold."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from mask_lightning.errors import CheckpointError, RunFolderError
from mask_lightning.utils.files import remove_drafts, write_atomically


class CheckpointFiles(TorchCheckpointIO):
    """How a Trainer writes and reads its checkpoints.

    Lightning's own way writes a draft below /tmp and moves it: to another disk that is a copy over the checkpoint
    before, of which a full disk leaves neither.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Replace the file at `path` once the new one is whole. Raises RunFolderError if it cannot be written."""
        path = Path(path)
        try:
            remove_drafts(path)
            # To memory first: where the disk is full, torch's own writer tells of its insides instead.
            buffer = BytesIO()
            torch.save(checkpoint, buffer)
            write_atomically(path, buffer.getbuffer())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {path} ({error.strerror}); mend that and resume: the checkpoint before is whole"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """`read_checkpoint`; never with the code that `weights_only=False` would run."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; {} where that is no mapping. Runs none of its code.

    Raises:
        CheckpointError: it cannot be read, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of damaged files torch raises all there is, from EOFError to IndexError
        raise CheckpointError(
            f"cannot read a checkpoint in {path} ({first_sentence(error)}); it is truncated, or not one of ours"
        ) from error
    return content if isinstance(content, dict) else {}


def first_sentence(error: Exception) -> str:
    """An error in few words: torch's messages go on over several lines."""
    text = str(error).strip().split("\n")[0].split(". ")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
