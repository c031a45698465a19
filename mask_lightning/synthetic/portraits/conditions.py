"""What light and face do in one shot."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """Where light comes from and what colour it has.

    Attributes:
        x: -1 from the left of the picture, 1 from the right.
        y: -1 from above, 1 from below.
        strength: 0 leaves the face flat, 1 models it strongly.
        warmth: -1 is blue, 1 is orange.
        exposure: Factor of the brightness.
    """

    x: float
    y: float
    strength: float
    warmth: float
    exposure: float


@dataclass(frozen=True)
class Expression:
    """What a face does in one shot.

    Attributes:
        smile: -0.3 is earnest, 1 a broad smile.
        open_mouth: 0 is closed, 1 shows the teeth.
        open_eyes: 1 is as usual.
        gaze_x: -1 to 1, where the eyes look.
        gaze_y: -1 to 1.
        raised_brows: 0 to 1.
    """

    smile: float
    open_mouth: float
    open_eyes: float
    gaze_x: float
    gaze_y: float
    raised_brows: float


def sample_light(rng: np.random.Generator) -> Light:
    """Sample a light from above, from either side."""
    return Light(
        x=float(rng.choice([-1, 1]) * rng.uniform(0.1, 1.0)),
        y=float(rng.uniform(-0.8, 0.0)),
        strength=float(rng.uniform(0.1, 1.0)),
        warmth=float(np.clip(rng.normal(0.1, 0.4), -1, 1)),
        exposure=float(np.clip(rng.normal(0.97, 0.10), 0.70, 1.12)),
    )


def sample_expression(rng: np.random.Generator) -> Expression:
    """Sample an expression: mostly at ease, eyes near the camera."""
    smile = float(np.clip(rng.normal(0.35, 0.4), -0.3, 1.0))
    return Expression(
        smile=smile,
        open_mouth=float(rng.uniform(0.5, 1.0)) if smile > 0.4 and rng.random() < 0.6 else 0.0,
        open_eyes=float(np.clip(rng.normal(1.0, 0.12) - 0.1 * max(smile, 0), 0.6, 1.25)),
        gaze_x=float(np.clip(rng.normal(0, 0.35), -1, 1)),
        gaze_y=float(np.clip(rng.normal(0, 0.3), -1, 1)),
        raised_brows=float(rng.uniform(0, 1) ** 2),
    )
