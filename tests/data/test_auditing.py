"""Every kind of problem is planted and found, and none is found in a clean folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from mask_lightning.data.auditing.audit import (
    Audit,
    audit_table,
    check_decoding,
    check_sizes,
    count_classes,
    count_codes,
    count_per_person,
)
from mask_lightning.data.auditing.findings import KINDS, Finding, by_kind, shorten_list, survey
from mask_lightning.data.auditing.photos import (
    HASH_BITS,
    MAX_PAIRS,
    PhotoFacts,
    examine,
    examine_photos,
    find_copies,
    find_near_duplicates,
    perceptual_hash,
)
from mask_lightning.data.index import read_index
from mask_lightning.errors import DatasetNotFoundError
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task

SHOTS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
CROP = (64, 48)
Plant = Callable[[Path], object]


def scene(seed: int, size: tuple[int, int] = (96, 128)) -> Image.Image:
    """Coloured noise of several scales, which differs between seeds as much as two photos do."""
    rng = np.random.default_rng(seed)
    grids = [rng.integers(0, 256, (4 * n, 3 * n, 3), dtype=np.uint8) for n in (1, 2, 4, 8)]
    layers = [np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), float) for grid in grids]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, one of each gender and age band, with a different scene on every photo."""
    images = tmp_path_factory.mktemp("clean") / "train" / "images"
    for person, (gender, years) in enumerate((g, y) for g in ("male", "female") for y in (25, 45, 65)):
        folder = images / f"{person + 1:06d}_{gender}_Asian_{years}"
        folder.mkdir(parents=True)
        for shot, name in enumerate(SHOTS):
            scene(7 * person + shot).save(folder / f"{name}.png")
    return images.parent.parent


@pytest.fixture
def images(clean: Path, tmp_path: Path) -> Path:
    """A copy of `clean` to damage."""
    return Path(shutil.copytree(clean, tmp_path / "photos")) / "train" / "images"


def audit(root: Path) -> Audit:
    table, findings = survey(root)
    return audit_table(table, findings=findings, crop=CROP)


def person(images: Path, number: int) -> Path:
    (folder,) = images.glob(f"{number:06d}_*")
    return folder


def overwrite(images: Path, number: int, shot: str, content: bytes) -> None:
    (person(images, number) / f"{shot}.png").write_bytes(content)


def copy_photo(images: Path, source: tuple[int, str], target: tuple[int, str]) -> None:
    overwrite(images, *target, (person(images, source[0]) / f"{source[1]}.png").read_bytes())


def alter(images: Path, change: Callable[[Image.Image], Image.Image], **save: object) -> None:
    """Replace person 2's `normal` by a changed copy of person 1's."""
    with Image.open(person(images, 1) / "normal.png") as photo:
        changed = change(photo.convert("RGB"))
    (person(images, 2) / "normal.png").unlink()
    changed.save(person(images, 2) / "normal.jpg", **save)


def truncate(images: Path) -> None:
    overwrite(images, 3, "mask4", (person(images, 3) / "mask4.png").read_bytes()[:2000])


def drop_everyone_over_60(images: Path) -> None:
    for number in (3, 6):
        shutil.rmtree(person(images, number))


def write_csv(images: Path, *rows: str) -> None:
    (images.parent / "train.csv").write_text("\n".join(["id,gender,race,age,path", *rows]) + "\n")


PLANTED: list[tuple[Plant, str, int, str]] = [
    (lambda images: (images / "000007_man_Asian_30").mkdir(), "bad_name", 1, "000007_man_Asian_30"),
    (lambda images: (images / "000007_male_Asian_200").mkdir(), "bad_name", 1, "found 200"),
    (lambda images: scene(99).save(person(images, 2) / "selfie.png"), "bad_name", 1, "selfie.png"),
    (lambda images: write_csv(images, "7,male,Asian,30,b", "8,male,Asian,30,a"), "train_csv", 2, "names a"),
    (lambda images: (images.parent / "train.csv").write_text("id\n1\n"), "train_csv", 1, "column `path`"),
    (truncate, "unreadable", 1, "mask4.png"),
    (lambda images: overwrite(images, 1, "mask1", b"no photo"), "unreadable", 1, "mask1.png"),
    (lambda images: overwrite(images, 1, "mask1", b""), "unreadable", 1, "mask1.png"),
    (drop_everyone_over_60, "class_absent", 1, "age >=60"),
    (
        lambda images: person(images, 2).rename(images / "000001_male_Asian_45"),
        "two_labels",
        1,
        "000001 is male, <30, 25 years and male, 30-59, 45 years",
    ),
    (
        lambda images: write_csv(images, "1,female,Asian,25,000001_male_Asian_25", "2,male,X,45,000002_male_Asian_45"),
        "csv_labels",
        1,
        "000001_male_Asian_25 is female, 25 years",
    ),
    (
        lambda images: copy_photo(images, (1, "mask1"), (4, "mask2")),
        "copies_across",
        1,
        "000001/mask1.png, 000004/mask2.png",
    ),
    (
        lambda images: copy_photo(images, (1, "mask1"), (1, "normal")),
        "copies_within",
        1,
        "000001/mask1.png, 000001/normal.png",
    ),
    (lambda images: alter(images, lambda photo: photo, quality=40), "near_across", 1, "000002/normal.jpg"),
    (lambda images: alter(images, lambda photo: photo.resize((48, 64))), "near_across", 1, "000001/normal.png"),
    (lambda images: alter(images, lambda photo: photo.resize((300, 400))), "near_across", 1, "000001/normal.png"),
    (
        lambda images: alter(images, lambda photo: ImageEnhance.Brightness(photo).enhance(0.8)),
        "near_across",
        1,
        "000001/normal.png and 000002/normal.jpg differ in",
    ),
    (lambda images: (person(images, 5) / "mask3.png").unlink(), "odd_count", 1, "000005 lacks mask3"),
    (lambda images: scene(99).save(person(images, 5) / "mask3.jpg"), "odd_count", 1, "has two files of mask3"),
    (lambda images: (images / "000007_male_Asian_30").mkdir(), "odd_count", 1, "000007_male_Asian_30 has no photos"),
    (lambda images: scene(99, (40, 64)).save(person(images, 5) / "mask3.png"), "small", 1, "1 of 40x64"),
]


@pytest.mark.parametrize(("plant", "kind", "count", "text"), PLANTED)
def test_each_planted_problem_is_the_only_finding(images: Path, plant: Plant, kind: str, count: int, text: str) -> None:
    plant(images)
    found = audit(images)
    assert {name: len(group) for name, group in by_kind(found.findings).items()} == {kind: count}
    assert text in found.findings[0].text
    assert found.stops_training == KINDS[kind].stops_training


@pytest.mark.parametrize("plant", [plant for plant, kind, *_ in PLANTED if KINDS[kind].stops_training])
def test_findings_that_stop_training_do_stop_it(images: Path, plant: Plant) -> None:
    """Without the audit: read the index, open the photos, and look for every class."""
    plant(images)

    def train() -> None:
        table = read_index(images)
        for path in table["path"]:
            with Image.open(path) as photo:
                photo.load()
        assert table["age"].nunique() == 3

    with pytest.raises((Exception, AssertionError)):
        train()


def test_every_problem_of_a_folder_is_listed(images: Path) -> None:
    (images / "000007_man_Asian_30").mkdir()
    (images / "000008_male_Asian_200").mkdir()
    scene(99).save(person(images, 2) / "selfie.png")
    scene(98).save(person(images, 3) / "mask9.png")
    truncate(images)
    (person(images, 5) / "normal.png").unlink()
    kinds = [finding.kind for finding in audit(images).findings]
    assert kinds.count("bad_name") == 4
    assert kinds.count("unreadable") == 1
    assert kinds.count("odd_count") == 1


def test_nothing_is_found_in_a_clean_folder(clean: Path) -> None:
    found = audit(clean)
    assert found.findings == ()
    assert not found.stops_training
    assert (found.near.across, found.near.within) == (0, 0)


def test_the_surveyed_table_equals_the_index(competition: Path) -> None:
    table, findings = survey(competition)
    pd.testing.assert_frame_equal(table, read_index(competition))
    assert findings == []


def test_counts_of_the_competition_fixture(competition: Path) -> None:
    """24 folders of 23 people: 14 women and 9 men, of whom 000022 has two folders, aged 59 and 60."""
    found = audit(competition)
    plain = found.to_plain()
    assert (plain["photos"], plain["people"]) == (24 * 7, 23)
    assert plain["tasks"]["mask"] == {
        "wear": {"photos": 120, "people": 23},
        "incorrect": {"photos": 24, "people": 23},
        "normal": {"photos": 24, "people": 23},
    }
    assert plain["tasks"]["gender"] == {"male": {"photos": 70, "people": 9}, "female": {"photos": 98, "people": 14}}
    assert plain["codes"]["wear male >=60"] == {"photos": 10, "people": 2}
    assert plain["codes"]["normal female <30"] == {"photos": 6, "people": 6}
    assert sum(code["photos"] for code in plain["codes"].values()) == 24 * 7
    assert plain["size"] == {"96x128": 168}
    assert plain["mode"] == {"RGB": 168}
    assert plain["format"] == {"JPEG": 112, "PNG": 56}
    assert plain["photos_per_person"]["000022"] == 14
    assert plain["found"] == {"two_labels": 1}
    assert not plain["training_would_fail"]
    (two,) = by_kind(found.findings)["two_labels"]
    assert two.text == "000022 is male, 30-59, 59 years and male, >=60, 60 years"
    assert [Path(path).stem for path in two.photos] == ["normal", "normal"]


def test_near_duplicates_of_one_person_are_only_counted(images: Path) -> None:
    with Image.open(person(images, 1) / "normal.png") as photo:
        photo.convert("RGB").save(person(images, 1) / "mask1.jpg", quality=60)
    (person(images, 1) / "mask1.png").unlink()
    found = audit(images)
    assert found.findings == ()
    assert (found.near.within, found.near.across) == (1, 0)


def test_copies_are_one_finding_and_not_near_duplicates(images: Path) -> None:
    copy_photo(images, (1, "mask1"), (2, "mask1"))
    copy_photo(images, (1, "mask1"), (3, "mask1"))
    (finding,) = audit(images).findings
    assert len(finding.photos) == 3
    assert audit(images).near.across == 0


@pytest.mark.parametrize(
    "prepare", [lambda images: images.rename(images.parent / "pictures"), lambda images: shutil.rmtree(images.parent)]
)
def test_a_folder_without_people_is_refused(images: Path, prepare: Plant) -> None:
    prepare(images)
    with pytest.raises(DatasetNotFoundError):
        survey(images.parents[1])


def test_people_without_any_photo_are_refused(tmp_path: Path) -> None:
    (tmp_path / "000001_male_Asian_30").mkdir()
    with pytest.raises(DatasetNotFoundError, match="folders of people without photos"):
        survey(tmp_path)


def test_a_folder_whose_files_all_have_wrong_names_is_audited(tmp_path: Path) -> None:
    (tmp_path / "000001_male_Asian_30").mkdir()
    scene(0).save(tmp_path / "000001_male_Asian_30" / "selfie.png")
    found = audit(tmp_path)
    assert found.stops_training
    assert found.to_plain()["found"] == {"bad_name": 1, "class_absent": 8}


def test_facts_have_the_stored_mode_and_the_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(0).convert("L").save(tmp_path / "grey.jpg", exif=exif)
    facts = examine(str(tmp_path / "grey.jpg"))
    assert (facts.width, facts.height, facts.mode, facts.format, facts.error) == (128, 96, "L", "JPEG", "")
    assert len(facts.phash) * 8 == HASH_BITS


@pytest.mark.parametrize(("content", "missing"), [(None, True), (b"", False), (b"text", False)])
def test_facts_say_why_a_photo_cannot_be_decoded(tmp_path: Path, content: bytes | None, missing: bool) -> None:
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    facts = examine(str(path))
    assert str(path) in facts.error
    assert facts.is_missing == missing
    (finding,) = check_decoding([facts])
    assert finding.kind == ("missing" if missing else "unreadable")


def test_an_unexpected_decoder_error_does_not_end_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> Image.Image:
        raise RuntimeError

    monkeypatch.setattr("mask_lightning.data.auditing.photos.decode_photo", fail)
    assert examine(str(tmp_path)).error == "RuntimeError()"


def test_workers_return_the_same_facts_in_the_same_order(clean: Path) -> None:
    paths = read_index(clean)["path"].tolist() * 4  # three chunks
    assert examine_photos(paths, workers=2) == examine_photos(paths, workers=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (384, 512), (4000, 30)])
def test_photos_of_any_size_have_a_hash(size: tuple[int, int]) -> None:
    assert len(perceptual_hash(scene(0).resize(size))) * 8 == HASH_BITS


@pytest.mark.parametrize("max_bits", [6, 9])
def test_near_duplicates_match_a_bit_count_of_every_pair(max_bits: int) -> None:
    """The expected pairs come from the definition; the rows do not fit into one block."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (300, 8), dtype=np.uint8)
    hashes[150:] = hashes[:150] ^ (1 << rng.integers(0, 8, (150, 8))).astype(np.uint8) * (rng.random((150, 8)) < 0.7)
    people = rng.integers(0, 40, 300)
    bits = np.unpackbits(hashes, axis=1)
    want = {
        (i, j, int((bits[i] != bits[j]).sum()))
        for i in range(300)
        for j in range(i + 1, 300)
        if (bits[i] != bits[j]).sum() <= max_bits
    }
    near = find_near_duplicates(hashes, people, max_bits=max_bits)
    assert set(map(tuple, near.pairs.tolist())) == {pair for pair in want if people[pair[0]] != people[pair[1]]}
    assert near.across + near.within == len(want)
    assert list(near.pairs[:, 2]) == sorted(near.pairs[:, 2])


def test_only_the_nearest_of_many_pairs_are_listed_but_all_are_counted() -> None:
    hashes = np.zeros((60, 8), np.uint8)
    hashes[-1, 0] = 1
    near = find_near_duplicates(hashes, np.arange(60), max_bits=1)
    assert near.across == 60 * 59 // 2
    assert len(near.pairs) == MAX_PAIRS
    assert near.pairs[:, 2].max() == 0


def test_no_photos_have_no_near_duplicates() -> None:
    assert find_near_duplicates(np.empty((0, 32), np.uint8), np.empty(0, np.int64), max_bits=5).across == 0


def test_equal_digests_are_grouped() -> None:
    groups = find_copies(["a", "b", "a", "c", "b", "a"])
    assert sorted(group.tolist() for group in groups) == [[0, 2, 5], [1, 4]]
    assert find_copies([]) == []


def test_absent_classes_are_counted_as_zero() -> None:
    table = pd.DataFrame({"person_id": ["a", "a", "b"], "mask": [0, 2, 0], "gender": [1, 1, 0], "age": [0, 0, 2]})
    assert count_classes(table, FACE["age"]).to_dict("index") == {
        "<30": {"photos": 2, "people": 1},
        "30-59": {"photos": 0, "people": 0},
        ">=60": {"photos": 1, "people": 1},
    }
    codes = count_codes(table, FACE)
    assert list(codes.index) == list(FACE.code_names)
    assert codes["photos"].to_numpy().nonzero()[0].tolist() == [2, 3, 15]
    assert count_per_person(table) == {"a": 2, "b": 1}


def test_photos_without_a_label_are_not_counted() -> None:
    table = pd.DataFrame({"person_id": ["a", "b"], "mask": [0, 0], "gender": [1, UNLABELLED], "age": [0, 0]})
    assert count_classes(table, FACE["gender"])["photos"].tolist() == [0, 1]
    assert count_codes(table, FACE)["photos"].sum() == 1


def test_only_the_most_frequent_of_many_codes_are_counted() -> None:
    space = LabelSpace(tuple(Task(name, tuple("0123456789")) for name in "abc"))
    table = pd.DataFrame({"person_id": list("xyxz"), "a": [1, 1, 9, 0], "b": [2, 2, 9, 0], "c": [3, 3, 9, 0]})
    assert count_codes(table, space, most=3)["photos"].to_dict() == {"0 0 0": 1, "1 2 3": 2, "9 9 9": 1}
    assert count_codes(table, space, most=1).to_dict("index") == {"1 2 3": {"photos": 2, "people": 2}}


def test_a_table_without_shots_and_years_is_audited(clean: Path) -> None:
    table = read_index(clean)[["path", "person_id", "family", "gender"]]
    table.loc[0, "gender"] = UNLABELLED  # does not contradict the person's other photos
    found = audit_table(table, space=FACE.only(["gender"]), strata=("gender",))
    assert found.findings == ()
    assert found.to_plain()["tasks"]["gender"]["male"] == {"photos": 20, "people": 3}
    table.loc[1, "gender"] = 1
    assert [one.text for one in audit_table(table, space=FACE.only(["gender"]), strata=("gender",)).findings] == [
        "000001 is male and female"
    ]


def test_findings_come_in_the_order_of_their_kinds() -> None:
    findings = [Finding("small", "x"), Finding("bad_name", "y"), Finding("small", "z")]
    groups = by_kind(findings)
    assert list(groups) == ["bad_name", "small"]
    assert [finding.text for finding in groups["small"]] == ["x", "z"]


@pytest.mark.parametrize(("count", "want"), [(1, "0"), (3, "0, 1, 2"), (5, "0, 1, 2 and 2 more")])
def test_long_lists_are_cut(count: int, want: str) -> None:
    assert shorten_list([str(i) for i in range(count)], most=3) == want


def test_photos_as_large_as_the_crop_are_no_finding() -> None:
    facts = [PhotoFacts("a", width=48, height=64), PhotoFacts("b", width=47, height=64), PhotoFacts("c", error="?")]
    (finding,) = check_sizes(facts, CROP)
    assert finding.photos == ("b",)
