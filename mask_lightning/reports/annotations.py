"""Draw boxes and predicted labels on photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from mask_lightning.faces.detector import Box

SHORTEST = 640  # long side in pixels to which smaller photos are enlarged, so that text fits beside the faces
MIN_TEXT, MAX_TEXT = 12, 64  # pixels
# Okabe and Ito's colours, which people with colour vision deficiencies can tell apart.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")


@dataclass(frozen=True)
class Note:
    """A box with lines of text.

    Attributes:
        box: left, top, right, bottom in pixels of the photo.
        lines: text, such as "wear 0.98".
        colour: index in COLOURS; it wraps around.
    """

    box: Box
    lines: tuple[str, ...]
    colour: int = 0


def enlargement(size: tuple[int, int]) -> int:
    """Return the whole factor by which a photo of this size is enlarged before drawing.

    Example:
        >>> enlargement((100, 80)), enlargement((1280, 720))
        (7, 1)
    """
    return -(-SHORTEST // max(size))


def annotate(photo: Image.Image, notes: Sequence[Note]) -> Image.Image:
    """Draw the notes on a copy of an RGB photo, enlarged by `enlargement`.

    Text is placed beside its box where it covers the least of other boxes and texts.
    """
    factor = enlargement(photo.size)
    size = (photo.width * factor, photo.height * factor)
    drawn = photo.copy() if factor == 1 else photo.resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(drawn, "RGBA")
    width = max(2, max(size) // 400)
    boxes: list[Box] = [_scaled(note.box, factor) for note in notes]
    for box, note in zip(boxes, notes, strict=True):
        canvas.rectangle(box, outline=_colour(note), width=width)
    taken: list[Box] = []
    for i in sorted(range(len(notes)), key=lambda i: boxes[i][1]):
        box, note = boxes[i], notes[i]
        font = ImageFont.load_default(_text_size(box, size))
        text, pad = "\n".join(note.lines), width + 2
        left, top, right, bottom = canvas.multiline_textbbox((0, 0), text, font=font, spacing=pad)
        block = (right - left + 2 * pad + 1, bottom - top + 2 * pad)
        others = [*taken, *(other for j, other in enumerate(boxes) if j != i)]
        corner = min(_corners(box, block, size), key=lambda corner: _covered(_at(corner, block), box, others))
        place = _at(corner, block)
        taken.append(place)
        canvas.rectangle(place, fill=(0, 0, 0, 190))
        canvas.rectangle((place[0], place[1], place[0] + width - 1, place[3]), fill=_colour(note))
        canvas.multiline_text(
            (corner[0] + pad + 1 - left, corner[1] + pad - top), text, font=font, fill="white", spacing=pad
        )
    return drawn


def _colour(note: Note) -> str:
    return COLOURS[note.colour % len(COLOURS)]


def _scaled(box: Box, factor: int) -> Box:
    left, top, right, bottom = (factor * each for each in box)
    return left, top, right, bottom


def _text_size(box: Box, size: tuple[int, int]) -> int:
    """Return the height of the text: with the face, but readable in the whole photo."""
    smallest = max(MIN_TEXT, round(max(size) / 80))
    return int(min(max((box[3] - box[1]) / 7, smallest), 2 * smallest, MAX_TEXT))


def _corners(box: Box, block: tuple[float, float], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Return possible top left corners of a text, best first: below, above, right, left, inside at the bottom."""
    left, top, right, bottom = box
    width, height = block
    corners = [(left, bottom), (left, top - height), (right, top), (left - width, top), (left, bottom - height)]
    return [(min(max(x, 0), max(size[0] - width, 0)), min(max(y, 0), max(size[1] - height, 0))) for x, y in corners]


def _at(corner: tuple[float, float], block: tuple[float, float]) -> Box:
    return corner[0], corner[1], corner[0] + block[0], corner[1] + block[1]


def _covered(place: Box, own: Box, others: Sequence[Box]) -> float:
    """Return the area of other boxes and texts that a text would cover; of the own box, half of it counts."""
    return sum(_shared(place, other) for other in others) + _shared(place, own) / 2


def _shared(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)
