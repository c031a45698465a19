"""One self-contained HTML file: templates, and pictures that lie inside it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from mask_lightning.reports.figures import to_png

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """An image for `<img>`.

    Attributes:
        content: the file.
        mime: what it is, as "image/png".
        width, height: in pixels, as the page lays it out.
        alt: what is to be seen, for who cannot see it.
    """

    content: bytes
    mime: str
    width: int
    height: int
    alt: str

    @property
    def uri(self) -> str:
        """The whole file as a data URI (RFC 2397)."""
        return f"data:{self.mime};base64,{b64encode(self.content).decode()}"


def photo_picture(photo: Image.Image, alt: str) -> Picture:
    """An RGB photo as a small JPEG, without any of its metadata."""
    buffer = BytesIO()
    photo.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return Picture(buffer.getvalue(), "image/jpeg", photo.width, photo.height, alt)


def figure_picture(figure: Figure, alt: str) -> Picture:
    """A figure as PNG, laid out at 96 pixels to the inch."""
    width, height = figure.get_size_inches()
    return Picture(to_png(figure), "image/png", round(96 * width), round(96 * height), alt)


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; text is escaped, whatever a folder or class is called."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
