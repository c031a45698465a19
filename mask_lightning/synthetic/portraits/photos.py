"""Draw one photo of a person: pose, light, expression, mask and camera differ from shot to shot."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mask_lightning.synthetic.canvas import Canvas, Pose
from mask_lightning.synthetic.portraits.camera import (
    OVERSAMPLING,
    Camera,
    Light,
    apply_light_and_camera,
    draw_backdrop,
    sample_camera,
    sample_light,
)
from mask_lightning.synthetic.portraits.clothes import draw_clothes, draw_earrings, draw_glasses
from mask_lightning.synthetic.portraits.faces import (
    Expression,
    draw_brows,
    draw_eyes,
    draw_mouth,
    draw_nose,
    sample_expression,
)
from mask_lightning.synthetic.portraits.hair import draw_back_hair, draw_beard, draw_front_hair
from mask_lightning.synthetic.portraits.heads import draw_ears, draw_head, draw_neck
from mask_lightning.synthetic.portraits.masks import Mask, draw_mask
from mask_lightning.synthetic.portraits.people import Person


@dataclass(frozen=True)
class Shot:
    """Everything that differs between the photos of one person; ``scene`` is the seed of the backdrop."""

    pose: Pose
    light: Light
    expression: Expression
    mask: Mask | None
    scene: int
    camera: Camera


def sample_shot(person: Person, mask: Mask | None, rng: np.random.Generator) -> Shot:
    """Sample pose, light, expression, scene and camera of one photo with the given mask (None: no mask)."""
    return Shot(
        pose=_sample_pose(rng),
        light=sample_light(rng),
        expression=sample_expression(rng),
        mask=mask,
        # Each person is photographed in two places.
        scene=int(person.texture + rng.integers(2)),
        camera=sample_camera(rng),
    )


def _sample_pose(rng: np.random.Generator) -> Pose:
    # Hair and mask must stay inside the default centre crop, 256 x 380 pixels (width x height).
    return Pose(
        x=OVERSAMPLING * float(np.clip(192 + rng.normal(0, 4), 184, 200)),
        y=OVERSAMPLING * float(np.clip(262 + rng.normal(0, 8), 246, 278)),
        scale=OVERSAMPLING * float(rng.uniform(76, 89)),
        tilt=float(np.clip(rng.normal(0, 0.04), -0.09, 0.09)),
        yaw=float(np.clip(rng.normal(0, 0.11), -0.28, 0.28)),
        pitch=float(np.clip(rng.normal(0, 0.03), -0.07, 0.07)),
    )


def draw_photo(person: Person, shot: Shot, rng: np.random.Generator) -> Image.Image:
    """Draw one photo of a person.

    Args:
        person: Person to draw.
        shot: Pose, light, expression, mask, scene and camera.
        rng: Source of the camera noise.

    Returns:
        RGB image of 384 x 512 pixels (width x height).
    """
    canvas = Canvas(draw_backdrop(shot.scene).copy(), shot.pose)
    _draw_body(canvas, person)
    _draw_face(canvas, person, shot)
    _draw_accessories(canvas, person, shot.mask)
    photo = canvas.image.reduce(OVERSAMPLING)
    return apply_light_and_camera(photo, pose=shot.pose, light=shot.light, camera=shot.camera, rng=rng)


def _draw_body(canvas: Canvas, person: Person) -> None:
    draw_back_hair(canvas, person)
    # The body turns and tilts less than the head.
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


def _draw_accessories(canvas: Canvas, person: Person, mask: Mask | None) -> None:
    # Hair covers the straps, but not a mask that hangs from one ear.
    hanging = mask is not None and mask.misplacement == "ear"
    if mask is not None and not hanging:
        draw_mask(canvas, mask, person)
    draw_earrings(canvas, person)
    draw_front_hair(canvas, person)
    if mask is not None and hanging:
        draw_mask(canvas, mask, person)
    draw_glasses(canvas, person)
