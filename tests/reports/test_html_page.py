from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

from PIL import Image

from mask_lightning.reports import html_page as page
from mask_lightning.reports.figures import new_figure


def test_a_photo_lies_in_its_uri_without_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where somebody lives"
    Image.new("RGB", (30, 20), (200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    picture = page.photo_picture(Image.open(tmp_path / "a.jpg"), "somebody")
    head, _, content = picture.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(b64decode(content))) as image:
        assert image.size == (picture.width, picture.height) == (30, 20)
        assert not image.getexif()


def test_a_figure_is_laid_out_by_its_inches() -> None:
    picture = page.figure_picture(new_figure(2, 1), "nothing")
    assert (picture.mime, picture.width, picture.height) == ("image/png", 192, 96)
    assert picture.content.startswith(b"\x89PNG")


def test_the_style_needs_no_network() -> None:
    style = (page.TEMPLATES / "style.css").read_text()
    assert not re.search(r"url\(|@import|https?:", style)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
