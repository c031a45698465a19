"""Self-contained HTML pages: templates, style and embedded images."""

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
    """Image for `<img>`.

    Attributes:
        content: content of the image file.
        mime: media type, such as "image/png".
        width: CSS pixels.
        height: CSS pixels.
        alt: alternative text for screen readers.
    """

    content: bytes
    mime: str
    width: int
    height: int
    alt: str

    @property
    def uri(self) -> str:
        """The file as a data URI (RFC 2397)."""
        return f"data:{self.mime};base64,{b64encode(self.content).decode()}"


def photo_picture(photo: Image.Image, alt: str) -> Picture:
    """Encode an RGB photo as JPEG without metadata."""
    buffer = BytesIO()
    photo.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return Picture(buffer.getvalue(), "image/jpeg", photo.width, photo.height, alt)


def figure_picture(figure: Figure, alt: str) -> Picture:
    """Render a figure as PNG, displayed at 96 CSS pixels per inch."""
    width, height = figure.get_size_inches()
    return Picture(to_png(figure), "image/png", round(96 * width), round(96 * height), alt)


def render(template: str, **values: Any) -> str:
    """Render a template of templates/; all values are HTML-escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
