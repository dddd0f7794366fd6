"""The split of a data set: nothing that is held back, nor anything within a window of it, is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from scipy import ndimage

import msvae
from msvae import DataError, Positions, Run, Structures
from msvae.campaigns.design.designs import joined_structures
from msvae.campaigns.launch import launch
from msvae.files.structures import read_structures, structures_to_bytes
from msvae.plugins import conformance
from msvae.structures.correlation import correlated_pages
from msvae.structures.splits import blank, split_of
from msvae_microstructures.hdf5 import Hdf5
from msvae_microstructures.simulated import Simulated
from msvae_microstructures.tiff import Tiff


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return grey values of which no two are equal, so that a value says which voxel it is."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)


def volume(pages: int, length: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return a stack (pages, 40, 40) that correlates over about `length` pages."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((pages, 40, 40)), (length, 2, 2))
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth), dtype=np.float32)


def around(structures: Structures, chosen: Any, image: np.ndarray[Any, Any]) -> set[float]:
    """Return the values of all voxels of an image that are in, or within a window of, chosen structures."""
    shape = structures.specification.grid.shape
    found: set[float] = set()
    places = np.argsort(image, axis=None)
    for values in structures.values[chosen, 0]:
        corner = np.unravel_index(places[int(values.flat[0])], image.shape)
        place = tuple(slice(max(c - n, 0), c + 2 * n) for c, n in zip(corner, shape, strict=True))
        found |= set(image[place].ravel().tolist())
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(96, 64), (40, 32, 32)])
def test_windows_of_one_image_are_a_window_apart_voxel_by_voxel(
    tmp_path: Path, shape: tuple[int, ...], overlap: float
) -> None:
    image = noise(*shape)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    d = len(shape)
    windows = Tiff(path=tmp_path / "a.tif", dimensions_of=d, patch=(8,) * d, overlap=overlap, spacing=1.0).load(0)
    for seed in range(3):
        sides = split_of(windows, 0.2, seed)
        trained = set(windows.values[sides.train].ravel().tolist())
        assert not trained & around(windows, sides.held_out, image)
        assert len(sides.train) + len(sides.held_out) + sides.unused == len(windows)
        assert sides.apart is not None
        assert sides.apart >= 8
        assert len(sides.train) > 0.35 * len(windows)


def test_a_split_that_ignores_positions_is_seen_to_leak(tmp_path: Path) -> None:
    """The check of the check: rows of overlapping windows, as groups, share voxels."""
    tifffile.imwrite(tmp_path / "a.tif", noise(96, 64), photometric="minisblack")
    windows = Tiff(path=tmp_path / "a.tif", patch=(8, 8), overlap=0.5, spacing=1.0).load(0)
    assert windows.positions is not None
    rows = Structures(windows.values, windows.specification, groups=windows.positions.corners[:, 1])
    sides = split_of(rows, 0.2, 0)
    assert "a part of it" in conformance.leak(rows, sides.train, sides.held_out)
    assert "a window less than" in conformance.leak(windows, sides.train, sides.held_out)
    honest = split_of(windows, 0.2, 0)
    assert not conformance.leak(windows, honest.train, honest.held_out)


@pytest.mark.parametrize("folder", [False, True])
def test_pages_of_a_stack_are_split_by_runs_as_far_apart_as_they_correlate(tmp_path: Path, folder: bool) -> None:
    stack = volume(80, 3.0)
    if folder:
        for k, page in enumerate(stack):
            tifffile.imwrite(tmp_path / f"{k:03}.tif", page)
    else:
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    pages = Tiff(path=tmp_path, spacing=1.0).load(0)
    assert pages.positions is not None
    (reach,) = correlated_pages(pages, pages.positions)
    flat = stack.reshape(80, -1) - stack.mean()
    for lag, ended in ((reach - 1, False), (reach, True)):
        correlation = (flat[lag:] * flat[: 80 - lag]).mean() / (flat**2).mean()
        assert (correlation <= 0.13) == ended
    sides = split_of(pages, 0.2, 0)
    distance = np.abs(sides.train[:, None] - sides.held_out[None]).min()
    assert distance > reach
    assert sides.apart == distance - 1
    assert len(sides.held_out) == 16
    assert len(sides.train) == 80 - 16 - reach


def test_windows_of_pages_are_split_in_all_three_directions(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(60, 2.0), photometric="minisblack")
    windows = Tiff(path=tmp_path, patch=(10, 10), overlap=0.5, spacing=1.0).load(0)
    assert windows.positions is not None
    sides, corners = split_of(windows, 0.2, 0), windows.positions.corners
    (reach,) = correlated_pages(windows, windows.positions)
    assert reach > 1
    distances = np.abs(corners[sides.train][:, None] - corners[sides.held_out][None])
    assert not ((distances[..., 0] <= reach) & (distances[..., 1:] < 20).all(axis=2)).any()


def test_pages_that_do_not_correlate_are_images_of_their_own(tmp_path: Path) -> None:
    images = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 32, 32)), (0, 1, 1))
    images += np.linspace(0, 2, 32)  # the same light falls on all of them
    tifffile.imwrite(tmp_path / "a.tif", images.astype(np.float32), photometric="minisblack")
    sides = split_of(Tiff(path=tmp_path, spacing=1.0).load(0), 0.25, 0)
    assert (len(sides.train), len(sides.held_out), sides.apart) == (30, 10, None)
    assert np.ptp(sides.held_out) > 12


def test_copies_are_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    single = Structures.from_labels(np.repeat(rng.integers(0, 2, (12, 8, 8)), 3, axis=0), phases=2)
    for seed in range(5):
        sides = split_of(single, 0.25, seed)
        ids = np.array(single.ids)
        assert not set(ids[sides.train]) & set(ids[sides.held_out])
        assert len(sides.train) + len(sides.held_out) == 36
    image = noise(64, 64) / 4096
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    other = noise(64, 64, seed=1) / 4096
    tifffile.imwrite(tmp_path / "c.tif", other)
    windows = Tiff(path=tmp_path, patch=(8, 8), spacing=1.0).load(0)
    sides, ids = split_of(windows, 0.2, 0), np.array(windows.ids)
    assert not set(ids[sides.train]) & set(ids[sides.held_out])
    assert min(len(sides.train), len(sides.held_out)) > 20


def test_windows_in_which_there_is_nothing_are_no_copies_and_stand_on_both_sides_in_their_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pages = (rng.random((24, 64, 64)) > 0.5).astype(np.uint8)
    pages[rng.random((24, 8, 8)).repeat(8, axis=1).repeat(8, axis=2) < 0.6] = 0
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    windows = Tiff(path=tmp_path, patch=(8, 8), spacing=1.0, threshold=0.5, dimensions_of=2).load(0)
    empty, sides, ids = blank(windows), split_of(windows, 0.2, 0), np.array(windows.ids)
    assert empty.mean() == pytest.approx(0.6, abs=0.05)
    for side in (sides.train, sides.held_out):
        assert empty[side].mean() == pytest.approx(empty.mean(), abs=0.1)
    full = ids[~empty]
    assert not set(ids[sides.train]) & set(ids[sides.held_out]) & set(full)
    assert len(sides.train) > 0.5 * len(windows)
    assert not conformance.leak(windows, sides.train, sides.held_out)


def test_a_block_in_which_there_is_nothing_is_not_held_back_alone(tmp_path: Path) -> None:
    image = (np.random.default_rng(0).random((128, 64)) > 0.5).astype(np.uint8)
    image[:40] = image[-40:] = 0
    tifffile.imwrite(tmp_path / "a.tif", image)
    windows = Tiff(path=tmp_path, patch=(8, 8), spacing=1.0, threshold=0.5).load(0)
    for seed in range(3):
        sides = split_of(windows, 0.2, seed)
        for side in (sides.train, sides.held_out):
            assert blank(windows)[side].mean() == pytest.approx(blank(windows).mean(), abs=0.25)


def test_compositions_have_one_voxel_and_are_copies_all_the_same() -> None:
    assert not blank(conformance.example_structures("composition", 0, 5)).any()


@dataclass(frozen=True)
class Slides(msvae.Dataset):
    """Windows of a periodic image, at random places: a plugin's data set."""

    name = "slides"
    kinds = ("field",)
    dimensions = (2,)
    told: bool = True

    def load(self, seed: int) -> Structures:
        return self.example(200, seed)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        rng, image = np.random.default_rng(seed), noise(100, 60, seed=seed)
        corners = np.column_stack([rng.integers(0, 100, n), rng.integers(0, 60, n)])
        windows = [np.roll(image, -corner, axis=(0, 1))[:10, :10] for corner in corners]
        batch = Structures.from_values(windows, 1e-6, periodic=False)
        positions = Positions(corners, periods=(100, 60)) if cls.told else None
        return Structures(batch.values, batch.specification, positions=positions)


def test_a_plugin_with_positions_cannot_leak_even_around_a_periodic_image() -> None:
    structures, image = Slides.example(200, 0), noise(100, 60)
    sides = split_of(structures, 0.2, 0)
    assert len(sides.train) > 60
    near = set()
    for window in structures.values[sides.held_out, 0]:
        corner = np.argwhere(image == window[0, 0])[0]
        near |= set(np.roll(image, -(corner - 10), axis=(0, 1))[:30, :30].ravel().tolist())
    assert not near & set(structures.values[sides.train].ravel().tolist())


def test_the_conformance_checks_catch_a_data_set_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    promise = next(c for c in conformance.checks(Slides) if "held-back" in str(c))
    monkeypatch.setattr("msvae.plugins.conformance.promises.ENOUGH", 120)
    promise()
    monkeypatch.setattr(Slides, "told", False)
    with pytest.raises(AssertionError, match=r"a part of it is trained on.*groups, or positions"):
        promise()


def test_images_are_held_back_whole_where_there_are_enough(tmp_path: Path) -> None:
    for k in range(10):
        tifffile.imwrite(tmp_path / f"{k}.tif", noise(16 + k, 24, seed=k))
    windows = Tiff(path=tmp_path, patch=(8, 8), spacing=1.0).load(0)
    assert windows.positions is not None
    sides, images = split_of(windows, 0.2, 0), windows.positions.image_of_each
    assert not set(images[sides.train]) & set(images[sides.held_out])
    assert sides.unused == 0


def test_groups_stay_together_and_their_windows_apart() -> None:
    values = noise(40, 8, 8)
    corners = np.column_stack([8 * np.arange(40), np.zeros(40, dtype=int)])
    batch = Structures.from_values(values)
    grouped = Structures(batch.values, batch.specification, groups=np.arange(40) // 4, positions=Positions(corners))
    sides = split_of(grouped, 0.2, 0)
    assert not set(sides.train // 4) & set(sides.held_out // 4)
    assert np.abs(sides.train[:, None] - sides.held_out[None]).min() == 2


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_few_structures_are_split_or_say_why_not(tmp_path: Path, gap: float) -> None:
    two = split_of(Structures.from_labels([[[0, 1]], [[1, 0]]]), 0.2, 0, gap=gap)
    assert (len(two.train), len(two.held_out)) == (1, 1)
    tifffile.imwrite(tmp_path / "a.tif", noise(12, 16))
    six = Tiff(path=tmp_path, patch=(4, 8), spacing=1.0).load(0)
    found = split_of(six, 0.2, 0, gap=gap)
    assert len(found.train) >= 2
    four = Tiff(path=tmp_path, patch=(6, 8), spacing=1.0).load(0)
    if gap:
        with pytest.raises(DataError, match=r"within \[6, 8\] voxels of each other.*training.gap") as caught:
            split_of(four, 0.2, 0, gap=gap)
        assert "\n" not in str(caught.value)
    else:
        assert split_of(four, 0.2, 0, gap=gap).apart == 0


def test_positions_survive_choosing_joining_and_files(tmp_path: Path) -> None:
    windows = Simulated(count=20, shape=(8, 8), image_shape=(64, 64), length=(3e-6, 3e-6)).load(0)
    path = tmp_path / "a.h5"
    path.write_bytes(structures_to_bytes(windows))
    again = read_structures(path)[np.arange(5, 15)]
    assert again.positions is not None
    assert windows.positions is not None
    np.testing.assert_array_equal(again.positions.corners, windows.positions.corners[5:15])
    assert again.positions.periods == (64, 64)
    more = joined_structures([again, windows[:3]]).positions
    assert more is not None
    assert more.image_of_each.tolist() == [0] * 10 + [1, 2, 3]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["labels"], file["at"] = windows.labels, windows.positions.corners
        file["specimen"] = np.arange(20) // 5
    described = Hdf5(path=tmp_path / "b.h5", values="labels", groups="specimen", corners="at").load(0)
    assert described.positions is not None
    assert described.groups is not None
    np.testing.assert_array_equal(described.positions.corners, windows.positions.corners)
    for wrong in (Positions([[0]] * 20), Positions([[0, 0]] * 3)):
        with pytest.raises(DataError, match="positions of 20"):
            Structures(windows.values, windows.specification, positions=wrong)
    with pytest.raises(DataError, match="integers"):
        Positions([[0.5, 0.0]])


def test_the_card_says_how_far_the_sides_are_apart_and_what_the_gap_costs(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    study = study_file("train")
    study.write_text(study.read_text().replace("count = 24", "count = 60\nimage_shape = [96, 96]"))
    table = launch(study, tmp_path / "run", overrides=["training.epochs=2"])
    assert table is not None
    rows = {row[0]: row[1] for row in table.rows}
    assert int(rows["structures: voxels between training and held-out ones, at least"]) >= 8
    lost = int(rows["structures: used by neither side, in the gap or copies"])
    assert lost + int(rows["structures: training"]) + int(rows["structures: held back"]) == 60
    assert Run.open(tmp_path / "run").structures.positions is not None
