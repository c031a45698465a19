"""One photo: a person, a mask or none, in one pose, light and mood."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mask_lightning.synthetic.portraits.adornments import draw_earrings, draw_glasses
from mask_lightning.synthetic.portraits.beards import draw_beard
from mask_lightning.synthetic.portraits.camera import OVERSAMPLING, Film, develop, draw_backdrop, sample_film
from mask_lightning.synthetic.portraits.canvas import Canvas, Pose
from mask_lightning.synthetic.portraits.clothes import draw_clothes
from mask_lightning.synthetic.portraits.conditions import Expression, Light, sample_expression, sample_light
from mask_lightning.synthetic.portraits.eyes import draw_brows, draw_eyes
from mask_lightning.synthetic.portraits.faces import draw_mouth, draw_nose
from mask_lightning.synthetic.portraits.fits import Mask
from mask_lightning.synthetic.portraits.hair import draw_back_hair, draw_front_hair
from mask_lightning.synthetic.portraits.heads import draw_ears, draw_head, draw_neck
from mask_lightning.synthetic.portraits.masks import draw_mask
from mask_lightning.synthetic.portraits.people import Person


@dataclass(frozen=True)
class Shot:
    """What differs from shot to shot of one person."""

    pose: Pose
    light: Light
    expression: Expression
    mask: Mask | None
    scene: int
    film: Film


def sample_shot(person: Person, mask: Mask | None, rng: np.random.Generator) -> Shot:
    """Sample framing, light, expression and camera of one shot."""
    return Shot(
        pose=_sample_pose(rng),
        light=sample_light(rng),
        expression=sample_expression(rng),
        mask=mask,
        # Everybody is photographed in two places.
        scene=int(person.texture + rng.integers(2)),
        film=sample_film(rng),
    )


def _sample_pose(rng: np.random.Generator) -> Pose:
    # Narrow enough for hair and mask to stay within the 256 x 380 pixels that a network sees.
    return Pose(
        x=OVERSAMPLING * float(np.clip(192 + rng.normal(0, 4), 184, 200)),
        y=OVERSAMPLING * float(np.clip(262 + rng.normal(0, 8), 246, 278)),
        scale=OVERSAMPLING * float(rng.uniform(76, 89)),
        tilt=float(np.clip(rng.normal(0, 0.04), -0.09, 0.09)),
        yaw=float(np.clip(rng.normal(0, 0.11), -0.28, 0.28)),
        pitch=float(np.clip(rng.normal(0, 0.03), -0.07, 0.07)),
    )


def take_photo(person: Person, shot: Shot, rng: np.random.Generator) -> Image.Image:
    """Draw one photo of a person.

    Args:
        person: Who is drawn.
        shot: How.
        rng: Of the camera's noise.

    Returns:
        An RGB image of 384 x 512 (width x height).
    """
    canvas = Canvas(draw_backdrop(shot.scene).copy(), shot.pose)
    _draw_body(canvas, person)
    _draw_face(canvas, person, shot)
    _draw_worn(canvas, person, shot.mask)
    photo = canvas.image.reduce(OVERSAMPLING)
    return develop(photo, pose=shot.pose, light=shot.light, film=shot.film, rng=rng)


def _draw_body(canvas: Canvas, person: Person) -> None:
    draw_back_hair(canvas, person)
    # The body stays upright while the head turns and tilts.
    pose = canvas.pose
    body = Canvas(canvas.image, Pose(pose.x, pose.y, pose.scale, pose.tilt * 0.25, pose.yaw * 0.2))
    draw_neck(body, person)
    draw_clothes(body, person)
    canvas.image = body.image


def _draw_face(canvas: Canvas, person: Person, shot: Shot) -> None:
    draw_ears(canvas, person)
    draw_head(canvas, person, shot.light)
    draw_eyes(canvas, person, shot.expression)
    draw_brows(canvas, person, shot.expression)
    draw_nose(canvas, person, shot.light)
    draw_mouth(canvas, person, shot.expression)
    draw_beard(canvas, person)


def _draw_worn(canvas: Canvas, person: Person, mask: Mask | None) -> None:
    # Hair covers the straps of a mask, but not a mask that hangs from one ear.
    hanging = mask is not None and mask.wrong == "ear"
    if mask is not None and not hanging:
        draw_mask(canvas, mask, person)
    draw_earrings(canvas, person)
    draw_front_hair(canvas, person)
    if mask is not None and hanging:
        draw_mask(canvas, mask, person)
    draw_glasses(canvas, person)
