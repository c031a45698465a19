"""Draw labelled portraits in the competition's layout, so that everybody can train without data."""

from mask_lightning.synthetic.portraits.folder import write_portraits

__all__ = ["write_portraits"]
