"""Corpora that are arrays: CIFAR-10's own files, patches of two photographs, toy sets with their known moments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codecbench.datamodules import cifar10
from codecbench.datamodules.base import SPLITS, Arrays, Content, Split
from codecbench.datamodules.cifar10 import CIFAR10
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.patches import COLUMNS, Patches, _photographs
from codecbench.datamodules.toy import Toy


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


# -- CIFAR-10 ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files of ten records, of which the last four of batch 5 are validation."""
    monkeypatch.setattr(cifar10, "RECORDS", 10)
    monkeypatch.setattr(cifar10, "VALIDATION", 4)
    home = tmp_path / "cifar-10-batches-bin"
    home.mkdir()
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = generator.integers(256, size=(10, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(home / name)
    return home


def test_cifar10_is_read_from_its_own_files(batches: Path) -> None:
    corpus = CIFAR10(str(batches.parent))
    corpus.validate()
    assert [corpus.array(split).shape for split in SPLITS] == [(46, 3, 32, 32), (4, 3, 32, 32), (10, 3, 32, 32)]
    record = (batches / "test_batch.bin").read_bytes()[:3073]
    image = corpus.array("test")[0]
    assert image.dtype == np.float32
    red, green_second_row, blue_last = record[1], record[1 + 1024 + 32], record[3072]  # planes of 1,024 bytes
    assert [image[0, 0, 0], image[1, 1, 0], image[2, 31, 31]] == pytest.approx(
        [red / 255, green_second_row / 255, blue_last / 255]
    )
    last = (batches / "data_batch_5.bin").read_bytes()
    assert corpus.array("validation")[0, 0, 0, 0] == pytest.approx(last[6 * 3073 + 1] / 255)
    assert corpus.array("train")[-1, 0, 0, 0] == pytest.approx(last[5 * 3073 + 1] / 255)


def test_cifar10s_fingerprint_sees_every_pixel_but_not_the_class_or_the_place(batches: Path) -> None:
    before = CIFAR10(str(batches)).fingerprint()
    data = bytearray((batches / "test_batch.bin").read_bytes())
    data[0] = (data[0] + 1) % 10
    (batches / "test_batch.bin").write_bytes(data)
    batches.rename(batches.parent / "elsewhere")
    assert CIFAR10(str(batches.parent / "elsewhere")).fingerprint() == before
    data[-1] ^= 1
    (batches.parent / "elsewhere/test_batch.bin").write_bytes(data)
    assert CIFAR10(str(batches.parent / "elsewhere")).fingerprint() != before


def test_damaged_or_missing_files_of_cifar10_are_named(batches: Path, tmp_path: Path) -> None:
    path = batches / "data_batch_2.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "data_batch_2.bin: 30729 bytes instead of 30730" in refusal(CIFAR10(str(batches)).validate)
    path.write_bytes(b"\x63" + whole[1:])
    assert "not of the binary version of CIFAR-10" in refusal(CIFAR10(str(batches)).validate)
    path.unlink()
    assert "data_batch_2.bin: cannot be opened (No such file" in refusal(CIFAR10(str(batches)).fingerprint)
    assert "cifar10 needs --data.root DIR" in (message := refusal(CIFAR10().validate)) and "--data patches" in message
    assert "holds no cifar-10-batches-bin" in refusal(CIFAR10(str(tmp_path / "x")).validate)


def test_the_real_record_count_is_that_of_the_release() -> None:
    assert (cifar10.RECORDS, cifar10.VALIDATION, cifar10.PIXELS) == (10_000, 5_000, 3_072)


# -- patches ----------------------------------------------------------------------------------------------------------


def test_patches_are_cut_from_disjoint_columns() -> None:
    corpus = Patches()
    corpus.validate()
    assert [len(corpus.array(split)) for split in SPLITS] == [2 * 50 * 49, 2 * 13 * 3, 2 * 13 * 4]
    columns = [set(range(*COLUMNS[split].indices(640))) for split in SPLITS]
    assert sum(map(len, columns)) == 640 == len(set.union(*columns))
    photographs = _photographs()
    np.testing.assert_array_equal(
        corpus.array("test")[4 * 13 + 5] * 255, photographs[1][32:64, 544:576].transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(corpus.array("train")[1] * 255, photographs[0][:32, 8:40].transpose(2, 0, 1))
    assert corpus.fingerprint() == Patches().fingerprint()
    assert "CIFAR" in Patches.title and "not CIFAR-10" in corpus.notes()[0]


# -- toy --------------------------------------------------------------------------------------------------------------

SHAPES = ("blobs", "circles", "moons", "swiss-roll")


@pytest.mark.parametrize("shape", SHAPES)
def test_toy_sets_repeat_and_their_splits_and_seeds_differ(shape: Any) -> None:
    toy = Toy(shape, points=500)
    toy.validate()
    assert all(toy.array(split).shape == (500, 2) and toy.array(split).dtype == np.float32 for split in SPLITS)
    assert toy.fingerprint() == Toy(shape, 500).fingerprint()
    drawn = [Toy(shape, 500, seed).array(split).tobytes() for seed in range(3) for split in SPLITS]
    assert len(set(drawn)) == 9
    assert len({Toy(name, 500).fingerprint() for name in SHAPES}) == 4  # type: ignore[arg-type]


def test_blobs_have_three_centres_of_unit_deviation() -> None:
    points = Toy("blobs", 30_000).array("train")
    centres = np.array([[-6, -6], [6, -2], [-1, 7]])
    nearest = np.square(points[:, None] - centres).sum(-1).argmin(1)
    for number, centre in enumerate(centres):
        blob = points[nearest == number]
        assert len(blob) == 10_000  # far apart: none is lost to another
        assert blob.mean(0) == pytest.approx(centre, abs=0.05) and blob.std(0) == pytest.approx([1, 1], abs=0.03)


def test_circles_have_radii_10_and_4() -> None:
    radii = np.linalg.norm(Toy("circles", 20_000).array("test"), axis=1)
    for radius in (4, 10):
        ring = radii[abs(radii - radius) < 2]
        assert len(ring) == 10_000 and ring.mean() == pytest.approx(radius, abs=0.01)
        assert ring.std() == pytest.approx(0.1, abs=0.005)  # noise of 0.01, ten times


def test_moons_are_two_half_circles_of_radius_10() -> None:
    points = Toy("moons", 20_000).array("validation")
    upper = np.linalg.norm(points, axis=1) - 10
    lower = np.linalg.norm(points - [10, 5], axis=1) - 10
    distance = np.where(abs(upper) < abs(lower), upper, lower)
    assert distance.std() == pytest.approx(0.1, abs=0.005)
    assert points[:, 1].min() == pytest.approx(-5, abs=0.5) and points[:, 1].max() == pytest.approx(10, abs=0.5)


def test_the_swiss_roll_is_a_spiral_whose_radius_is_its_angle() -> None:
    points = Toy("swiss-roll", 20_000).array("train").astype(np.float64)
    radius, angle = np.linalg.norm(points, axis=1), np.arctan2(points[:, 1], points[:, 0])
    turned = (radius - angle + np.pi) % (2 * np.pi) - np.pi  # t (cos t, sin t), t from 1.5 pi to 4.5 pi
    assert turned.mean() == pytest.approx(0, abs=0.01) and turned.std() < 0.11
    assert radius.min() == pytest.approx(1.5 * np.pi, abs=0.4) and radius.max() == pytest.approx(4.5 * np.pi, abs=0.4)


@pytest.mark.parametrize(("options", "told"), [({"points": 0}, "points=0"), ({"seed": -1}, "seed=-1")])
def test_impossible_toy_sets_are_refused(options: dict[str, int], told: str) -> None:
    assert told in refusal(lambda: Toy(**options))  # type: ignore[arg-type]


# -- the contract -----------------------------------------------------------------------------------------------------


class Given(Arrays):
    """Arrays that are handed over."""

    kind: Content = "vector"  # type: ignore[misc]

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = dict(zip(SPLITS, arrays, strict=True))

    def array(self, split: Split) -> np.ndarray:
        return self.arrays[split]


def test_arrays_that_cannot_be_used_are_refused() -> None:
    good, other = np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32)
    Given(good, good, good).validate()
    for bad in (np.zeros((0, 2), np.float32), other, np.full((3, 2), np.nan, np.float32)):
        assert "the validation split" in refusal(Given(good, bad, good).validate)
    assert Given(good, good, good).fingerprint() != Given(good, good, good + 1).fingerprint()
    assert Given(good, good, good[:2]).fingerprint() != Given(good, good[:2], good).fingerprint()
