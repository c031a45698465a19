"""Random softness: smooth noise, and blurring of arrays."""

import numpy as np
from PIL import Image, ImageFilter


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """(h, w) of noise of about unit strength; `size` is (w, h), `cells` how many bumps (across, along)."""
    coarse = rng.normal(size=(cells[1] + 2, cells[0] + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w) or (h, w, c), blurred over h and w."""
    if values.ndim == 3:
        return np.stack([blur(values[..., i], sigma) for i in range(values.shape[2])], axis=-1)
    # Pillow blurs bytes only: the values' own range is spread over all 256 of them.
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.asarray(values, dtype=np.float32)
    scaled = Image.fromarray(np.asarray((values - low) / (high - low) * 255 + 0.5, dtype=np.uint8))
    blurred = np.asarray(scaled.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32)
    return blurred / 255 * (high - low) + low
