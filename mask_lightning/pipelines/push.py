"""Publish a trained run on the Hugging Face hub."""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from rich.console import Console

from mask_lightning.errors import ExportError, one_line
from mask_lightning.exporting.folder import Exported
from mask_lightning.pipelines.export import export_model
from mask_lightning.settings.export import PushSettings

log = logging.getLogger(__name__)


def push_model(settings: PushSettings, folder: Path) -> Exported:
    """Write a model in Hugging Face's layout into a new folder, and upload it if a repository is named.

    The folder stays, also if the upload fails.

    Raises:
        ExportError: there is no token, or the hub refuses the upload.
        MaskLightningError: as `export_model`.
    """
    token = get_token()
    if settings.repo is not None and token is None:  # before the long work
        raise ExportError(
            f"repo={settings.repo} needs a token of the Hugging Face hub, found none; set HF_TOKEN, run `hf auth "
            "login`, or leave repo out, which only writes the folder"
        )
    exported = export_model(settings.export_settings(), folder, hub_name=settings.repo or folder.name)
    if settings.repo is None:
        return exported
    api = HfApi(token=token)
    try:
        api.create_repo(settings.repo, private=settings.private, exist_ok=True)
        address = api.upload_folder(
            repo_id=settings.repo,
            folder_path=folder,
            ignore_patterns=["*.log"],
            commit_message="Model by mask_lightning",
        )
    except (HfHubHTTPError, OSError) as error:  # refused, or no connection
        raise ExportError(
            f"cannot upload to {settings.repo} ({one_line(str(error), most=200)}); the folder {folder} is complete, "
            f"upload it with: hf upload {settings.repo} {folder}"
        ) from error
    Console(stderr=True).print(f"uploaded: {address}", highlight=False, soft_wrap=True)
    return exported
