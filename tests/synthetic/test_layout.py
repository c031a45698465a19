from pathlib import Path

import pytest

from mask_lightning.synthetic.layout import draft_folder


def test_a_renamed_draft_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    with draft_folder(root) as draft:
        assert not draft.exists()
        draft.mkdir()
        (draft / "file").touch()
        draft.rename(root)
    assert list(root.parent.rglob("*")) == [root, root / "file"]


def test_a_draft_is_removed_after_an_interruption(tmp_path: Path) -> None:
    def write() -> None:
        with draft_folder(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
