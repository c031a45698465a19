"""Photos are read at the size that is needed, faces are sought once, and sizes are compared with the training's."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from red_faces import draw_face, install

from mask_lightning.data import images, prepared
from mask_lightning.data.images import decode_photo, photo_size
from mask_lightning.data.prepared import (
    PhotoSize,
    SizeTally,
    compare_sizes,
    describe_missing_faces,
    describe_sizes,
    read_prepared,
    sample_sizes,
)
from mask_lightning.data.transforms import TransformSpec, crop, eval_pipeline, middle_size
from mask_lightning.errors import PhotoError

SHARE = TransformSpec(None, None, 32, crop="share", share_height=0.5, share_width=0.25)
FACE = TransformSpec(None, None, 32, crop="face", margin=0.0)
CENTRE = TransformSpec(40, 30, 32)


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def scene(width: int, height: int) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    small[..., 1] = small[..., 0]  # nowhere red
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (TransformSpec(380, 256), (380, 256)),
        (TransformSpec(380, 256, keep_aspect=True), (380, 380)),
        (TransformSpec(None, None), (400, 400)),
        (TransformSpec(None, None, keep_aspect=True), (400, 400)),
        (TransformSpec(None, None, crop="share"), (600, 400)),
        (SHARE, (300, 100)),
        (TransformSpec(None, None, crop="share", share_width=0.5, keep_aspect=True), (600, 600)),
        (TransformSpec(None, None, crop="face"), (400, 400)),
        (TransformSpec(crop="face"), (400, 400)),
        (TransformSpec(None, None, crop="face", share_height=0.5), (400, 400)),
        (TransformSpec(None, None, crop="face", share_height=0.25, share_width=0.5), (200, 200)),
        (TransformSpec(None, None, crop="share", share_height=0.0001, share_width=0.0001), (1, 1)),
    ],
)
def test_the_crop_in_the_middle(monkeypatch: pytest.MonkeyPatch, spec: TransformSpec, want: tuple[int, int]) -> None:
    install(monkeypatch)
    assert middle_size((400, 600), spec) == want
    assert eval_pipeline(spec)(scene(400, 600)).size == (spec.size, spec.size)


def test_a_share_is_of_the_photo_whatever_its_resolution() -> None:
    small, large = (eval_pipeline(SHARE)(scene(*size)) for size in ((160, 200), (640, 800)))
    assert distance(small, large) < 2


def test_keeping_the_aspect_ratio_keeps_circles_round() -> None:
    x, y = np.meshgrid(np.arange(200), np.arange(300))
    disc = Image.fromarray(np.uint8(255 * ((x - 100) ** 2 + (y - 150) ** 2 < 60**2))).convert("RGB")
    for keep, want in ((True, 1), (False, 1.5)):
        spec = TransformSpec(180, 120, 96, keep_aspect=keep)
        seen = np.asarray(eval_pipeline(spec)(disc))[..., 0] > 127
        assert np.ptp(np.nonzero(seen)[1]) / np.ptp(np.nonzero(seen)[0]) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("spec", [SHARE, FACE, CENTRE], ids=["share", "face", "centre"])
def test_a_file_is_prepared_as_its_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, orientation: int, spec: TransformSpec
) -> None:
    install(monkeypatch)
    photo = draw_face((1200, 1600), (500, 700, 740, 940))
    turn = {1: None, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    (photo.transpose(turn) if turn is not None else photo).save(path, exif=exif)
    (image,), size = read_prepared(path, [spec])
    assert distance(image, eval_pipeline(spec)(photo)) < 4
    assert size[:2] == photo_size(path) == (1200, 1600)
    assert size.face == pytest.approx(240, abs=12) if spec is FACE else math.isnan(size.face)


@pytest.mark.parametrize(
    ("specs", "box", "want"),
    [
        ([CENTRE], (0, 0, 1, 1), [1600]),
        ([SHARE], (0, 0, 1, 1), [400]),  # a crop of 300 x 800 may be 4.7 times smaller, so 4
        ([SHARE, CENTRE], (0, 0, 1, 1), [1600]),
        ([FACE], (400, 500, 900, 1000), [800]),  # 640 pixels suffice for detection
        ([FACE], (400, 500, 460, 560), [800, 1600]),  # 60 pixels for 32: the face needs the photo's own pixels
        ([FACE], (0, 0, 1, 1), [800]),  # nobody
        ([FACE, SHARE], (400, 500, 900, 1000), [800]),
    ],
)
def test_a_jpeg_is_decoded_at_the_size_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specs: list[TransformSpec], box, want: list[int]
) -> None:
    draw_face((1200, 1600), box).save(tmp_path / "a.jpg", quality=95)
    faces, heights = install(monkeypatch), []

    def decode(*args):
        heights.append((decoded := decode_photo(*args)).photo.height)
        return decoded

    monkeypatch.setattr(prepared, "decode_photo", decode)
    images = read_prepared(tmp_path / "a.jpg", specs).images
    assert heights == want
    assert [image.size for image in images] == [(32, 32)] * len(specs)
    assert len(faces.sizes) == (FACE in specs), "faces are sought once"


def test_a_face_is_the_same_from_both_decodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    photo = draw_face((1200, 1600), (400, 500, 460, 560))
    photo.save(tmp_path / "a.jpg", quality=95)
    (image,), size = read_prepared(tmp_path / "a.jpg", [FACE])
    assert distance(image, photo.crop((400, 500, 460, 560)).resize((32, 32), Image.Resampling.BOX)) < 15
    assert size.face == pytest.approx(60, abs=5)


def test_without_a_face_the_middle_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    scene(300, 400).save(tmp_path / "a.png")
    (image,), size = read_prepared(tmp_path / "a.png", [FACE])
    assert size == (300, 400, 0)
    want = scene(300, 400).crop((0, 50, 300, 350)).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(want))
    assert crop(scene(300, 400), FACE).size == (300, 300)


def test_the_part_that_is_shown_is_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert crop(draw_face((300, 400), (100, 120, 180, 200)), FACE).size == (80, 80)


@pytest.mark.parametrize("spec", [SHARE, FACE, CENTRE, TransformSpec(None, None, 32)])
def test_a_photo_of_one_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: TransformSpec) -> None:
    install(monkeypatch)
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    (image,), _ = read_prepared(tmp_path / "a.png", [spec])
    assert image.getcolors() == [(32 * 32, (1, 2, 3))]


def test_sizes_are_described_and_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe_sizes([PhotoSize(100, 400, 50), PhotoSize(200, 200, 100), PhotoSize(200, 200, 0)])
    assert found == {
        "photo": [200.0] * 5,
        "face": [52.5, 62.5, 75.0, 87.5, 97.5],
        "face_share": [0.2625, 0.3125, 0.375, 0.4375, 0.4875],
    }
    assert describe_sizes([PhotoSize(3, 3)]) == {"photo": [3.0] * 5}
    assert describe_sizes([]) == {}
    paths = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, path in enumerate(paths[:5]):
        Image.new("RGB", (10 + i, 20)).save(path)  # the last is missing
    assert [size.width for size in sample_sizes(paths)] == [10, 11, 12, 13, 14]
    monkeypatch.setattr(prepared, "SAMPLE", 3)
    assert len(sample_sizes(paths[:5])) == 3
    assert sample_sizes(paths[:5]) == sample_sizes(paths[:5])


TRAINING = {"photo": [400, 420, 450, 480, 500], "face": [90, 95, 100, 105, 110]}


@pytest.mark.parametrize(
    ("sizes", "by_face", "want"),
    [
        ([(300, 300)] * 3, False, None),
        ([(700, 700)], False, None),
        ([(260, 260)], False, "photos of about 260 pixels (root of width x height), trained on 400 to 500"),
        ([(3000, 4000)], False, "photos of about 3464 pixels (root of width x height), trained on 400 to 500"),
        ([(9, 9), (450, 450), (450, 450)], False, None),  # the median
        ([(9000, 9000, 100)], True, None),  # the size of the photo does not matter
        ([(9000, 9000, 20)], True, "faces of about 20 pixels (longer side of the face), trained on 90 to 110"),
        ([(100, 100, 0)], True, None),
        ([], False, None),
    ],
)
def test_other_sizes_than_in_training_are_noticed(sizes, by_face: bool, want: str | None) -> None:
    found = [PhotoSize(*size) for size in sizes]
    assert compare_sizes(found, TRAINING, by_face=by_face) == want
    assert compare_sizes(found, {}, by_face=by_face) is None


def test_a_tally_names_photos_without_a_face() -> None:
    tally = SizeTally()
    for i in range(50):
        tally.add(f"photos/{i}.jpg", PhotoSize(100, 100, 0 if i % 2 else 30))
    missing, sizes = tally.notes({"face": TRAINING, "centre": {}})
    assert missing.startswith("25 of 50 photos have no detected face, the middle of the photo is used: 1.jpg, 3.jpg, ")
    assert missing.endswith(", 39.jpg and 5 more")
    assert sizes.startswith("expected sizes as in training, found faces of about 30 pixels")
    assert SizeTally().notes({"face": TRAINING}) == []
    assert describe_missing_faces(["a.jpg"], 1, 2).endswith(": a.jpg")


def test_large_photos_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE", 100)
    monkeypatch.setattr(images, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    scene(64, 64).save(tmp_path / "a.png")
    scene(10, 10).save(tmp_path / "small.png")
    with images._turn(101):
        decode_photo(tmp_path / "small.png")
        process = multiprocessing.get_context("fork").Process(target=decode_photo, args=(tmp_path / "a.png",))
        process.start()
        process.join(0.3)
        assert process.is_alive(), "it waits"
    process.join(20)
    assert process.exitcode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of processes from /proc")
@pytest.mark.parametrize(
    ("spec", "most"),
    [(TransformSpec(), 1.8e9), (TransformSpec(None, None, crop="share"), 0.5e9)],
    ids=["centre", "share"],
)
def test_three_processes_read_photos_of_200_megapixels_in_bounded_memory(
    tmp_path: Path, spec: TransformSpec, most: float
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.linear_gradient("L").resize((20_000, 10_000)).convert("RGB")
    photo.save(tmp_path / "a.jpg", exif=exif, quality=50)
    del photo
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=read_prepared, args=(tmp_path / "a.jpg", [spec])) for _ in range(3)]
    for worker in workers:
        worker.start()
    peak, base = 0, _memory(os.getpid())
    while any(worker.is_alive() for worker in workers):
        peak = max(peak, sum(max(_memory(worker.pid) - base, 0) for worker in workers))
        time.sleep(0.02)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert peak < most, f"{peak / 1e9:.2f} GB"


def _memory(process: int | None) -> int:
    """Return the resident memory of a process in bytes; 0 after its end."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def test_more_than_200_megapixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    scene(10, 10).save(tmp_path / "a.jpg")
    with pytest.raises(PhotoError, match="claims 10x10 pixels, more than 99"):
        read_prepared(tmp_path / "a.jpg", [SHARE])
