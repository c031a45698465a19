"""Each shot's own light and camera: brightness, a lamp at one side, colour temperature, blur, grain."""

import numpy as np
from PIL import Image

from mask_lightning.synthetic.masks.noise import blur


def exposed(portrait: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same portrait, taken in slightly other light with a slightly other camera."""
    pixels = np.asarray(portrait, dtype=np.float32) / 255
    pixels = pixels ** float(np.exp(rng.normal(0, 0.1)))
    warmth = rng.normal(0, 0.045)
    pixels = pixels * np.array([1 + warmth, 1 + rng.normal(0, 0.012), 1 - warmth], dtype=np.float32)
    pixels = pixels * _lamp(pixels.shape, rng)[..., None]
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.85, 1.12)
    if rng.random() < 0.3:
        pixels = blur(pixels, rng.uniform(0.4, 0.9))
    grain = rng.uniform(0, 0.014)
    pixels = pixels + grain * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5, dtype=np.uint8))


def _lamp(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(h, w) of about 1: one side brighter than the other."""
    across, along = np.linspace(-0.5, 0.5, shape[1]), np.linspace(-0.5, 0.5, shape[0])[:, None]
    lamp = rng.normal(0, 0.09) + rng.normal(0, 0.16) * across + rng.normal(0, 0.08) * along
    return np.asarray(np.exp(lamp), dtype=np.float32)
