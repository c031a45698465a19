"""Draw labelled portraits in the competition's layout: the data that commands use without ``data.root``."""

from mask_lightning.synthetic.portraits.folder import write_portraits

__all__ = ["write_portraits"]
