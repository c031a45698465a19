"""Draws labelled portraits in the competition's layout, so that everybody can train without any data."""

from mask_lightning.data.portraits.folder import write_portraits

__all__ = ["write_portraits"]
