"""Data sets in files: TIFF as instruments write it, Mechanical MNIST, HDF5; and the damaged ones."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from msvae import DataError
from msvae_microstructures.hdf5 import Hdf5
from msvae_microstructures.mechanical_mnist import MechanicalMnist
from msvae_microstructures.tiff import Images, Tiff

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 16), dtype=np.uint8)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_page_is_read_whatever_its_compression_and_depth(tmp_path: Path, compression: Any, dtype: Any) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, (3, 12, 16)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, compression=compression, photometric="minisblack")
    pages = Tiff(path=tmp_path / "a.tif", spacing=1e-6).load(0)
    assert pages.specification.kind == "field"
    np.testing.assert_allclose(pages.labels, image / np.iinfo(dtype).max, rtol=1e-6)
    volume = Tiff(path=tmp_path / "a.tif", spacing=1e-6, dimensions_of=3).load(0)
    assert volume.specification.grid.shape == (3, 12, 16)


def test_hidden_files_and_what_is_no_image_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    (tmp_path / "._a.tif").write_bytes(b"what macOS keeps of a.tif")
    (tmp_path / "Thumbs.db").write_bytes(b"what Windows keeps")
    assert len(Tiff(path=tmp_path, spacing=1e-6).load(0)) == 1
    assert "1 hidden files are not read" in caplog.text


def test_colours_become_grey_by_their_luminance(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 3), dtype=np.uint8)
    colours[..., 1] = 200
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    found = Tiff(path=tmp_path, spacing=1.0).load(0)
    assert found.labels[0, 0, 0] == pytest.approx(round(0.7152 * 200) / 255, rel=1e-5)


def test_threshold_labels_patches_and_overlap(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.where(IMAGE > 99, 170, 85).astype(np.uint8))
    by_threshold = Tiff(path=tmp_path, spacing=1.0, threshold=100).load(0)
    by_label = Tiff(path=tmp_path, spacing=1.0, labels=(85, 170)).load(0)
    np.testing.assert_array_equal(by_threshold.labels[0], IMAGE > 99)
    assert by_threshold.ids == by_label.ids
    plain = Tiff(path=tmp_path, spacing=1.0, threshold=100, patch=(4, 8)).load(0)
    assert plain.labels.shape == (6, 4, 8)
    np.testing.assert_array_equal(plain.labels[3], (IMAGE > 99)[4:8, 8:])
    assert plain.positions is not None
    assert plain.positions.corners[:, 1:].tolist() == [[y, x] for y in (0, 4, 8) for x in (0, 8)]
    assert len(Tiff(path=tmp_path, spacing=1.0, threshold=100, patch=(4, 8), overlap=0.5).load(0)) == 15


@pytest.mark.parametrize(("unit", "resolution", "metres"), [("CENTIMETER", 2e4, 5e-7), ("INCH", 25400.0, 1e-6)])
def test_the_spacing_is_read_from_the_tags(tmp_path: Path, unit: str, resolution: float, metres: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, resolution=(resolution, resolution), resolutionunit=unit)
    assert Tiff(path=tmp_path).load(0).specification.grid.spacing[0] == pytest.approx(metres)


def test_the_spacing_is_read_from_imagej_metadata(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(4.0, 4.0), metadata={"unit": "um"})
    assert Tiff(path=tmp_path).load(0).specification.grid.spacing[0] == pytest.approx(0.25e-6)


def test_a_folder_of_slices_is_one_volume(tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(tmp_path / f"{k}.tif", np.full((4, 5), 10 * k, dtype=np.uint8))
    volume = Tiff(path=tmp_path, spacing=1.0, dimensions_of=3, labels=(0, 10, 20)).load(0)
    np.testing.assert_array_equal(volume.labels[0, :, 0, 0], [0, 1, 2])


def write_nothing(path: Path) -> None:
    path.mkdir()


def write_half(path: Path) -> None:
    tifffile.imwrite(path, IMAGE, compression="zlib")
    path.write_bytes(path.read_bytes()[:150])


def write_nan(path: Path) -> None:
    tifffile.imwrite(path, np.full((4, 4), np.nan, dtype=np.float32))


def write_text(path: Path) -> None:
    path.write_text("not an image")


@pytest.mark.parametrize(
    ("write", "settings", "says"),
    [
        (lambda p: None, {}, "does not exist"),
        (write_nothing, {}, "no .tif"),
        (write_half, {}, "damaged"),
        (write_text, {}, "damaged"),
        (write_nan, {}, "NaN"),
        (lambda p: tifffile.imwrite(p, IMAGE), {"spacing": None}, "dataset.spacing"),
        (lambda p: tifffile.imwrite(p, IMAGE), {"patch": (50, 50)}, "larger than"),
        (lambda p: tifffile.imwrite(p, IMAGE), {"labels": (0, 255)}, "name every value"),
    ],
)
def test_a_bad_image_is_one_sentence(tmp_path: Path, write: Any, settings: dict[str, Any], says: str) -> None:
    path = tmp_path / "image.tif"
    write(path)
    with pytest.raises(DataError, match=says) as caught:
        Tiff(**{"path": path, "spacing": 1.0, **settings}).load(0)
    assert "\n" not in str(caught.value)


def test_real_images_are_read(data: Path) -> None:
    berea = Tiff(path=data / "berea" / "berea.tif", dimensions_of=3, threshold=127, spacing=2e-6, patch=(64, 64, 64))
    structures = berea.load(0)
    assert structures.values.shape == (4 * 6 * 6, 1, 64, 64, 64)
    assert structures.fractions[:, 0].mean() == pytest.approx(0.2, abs=0.03)
    powder = Tiff(path=data / "powder", dimensions_of=3, spacing=1e-6).load(0)
    assert powder.specification.grid.shape == (64, 256, 256)
    electrode = Tiff(path=data / "electrode" / "electrode.tiff", dimensions_of=3, spacing=1e-6, labels=(0, 85, 170))
    assert len(electrode.load(0).specification.constituents) == 3
    assert Tiff(path=data / "ti64", spacing=1e-6).load(0).specification.grid.shape == (768, 1024)


def mnist(folder: Path, rows: int = 3, columns: int = 784, energies: int = 13, zipped: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    np.savetxt(folder / "mnist_img_test.txt", np.full((rows, columns), 51), fmt="%d")
    np.savetxt(folder / "summary_psi_test_all.txt", np.ones((rows, energies)))
    if zipped:
        with zipfile.ZipFile(folder / "mnist_img_test.txt.zip", "w") as archive:
            archive.write(folder / "mnist_img_test.txt", "mnist_img_test.txt")
        (folder / "mnist_img_test.txt").unlink()
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_mechanical_mnist_is_read_plain_or_zipped(tmp_path: Path, zipped: bool) -> None:
    structures = MechanicalMnist(path=mnist(tmp_path / "d", zipped=zipped), limit=2).load(0)
    assert structures.values.shape == (2, 1, 28, 28)
    assert structures.values.max() == pytest.approx(0.2)
    assert structures.properties["energy"].shape == (2, 13)
    few = MechanicalMnist(path=tmp_path / "d", displacements=(4.0, 14.0)).load(0)
    assert few.properties["energy"].shape == (3, 2)
    with pytest.raises(ValueError, match="displacements is a list of some of the published ones"):
        MechanicalMnist(path=tmp_path / "d", displacements=(3.0,))


def test_mechanical_mnist_of_the_wrong_form_is_refused(tmp_path: Path) -> None:
    for k, (wrong, says) in enumerate((({"columns": 700}, "expected 784"), ({"energies": 12}, "expected 13"))):
        with pytest.raises(DataError, match=says):
            MechanicalMnist(path=mnist(tmp_path / f"d{k}", **wrong)).load(0)
    with pytest.raises(DataError, match="has neither"):
        MechanicalMnist(path=tmp_path).load(0)
    folder = mnist(tmp_path / "short")
    np.savetxt(folder / "summary_psi_test_all.txt", np.ones((2, 13)))
    with pytest.raises(DataError, match="do not belong together"):
        MechanicalMnist(path=folder).load(0)


def test_the_published_rows_have_the_published_energies(data: Path) -> None:
    structures = MechanicalMnist(path=data / "mechanical_mnist", limit=5).load(0)
    assert structures.properties["energy"][0, 12] == pytest.approx(152.30835)
    assert structures.values[0].max() == 1.0


def test_an_array_of_another_program_is_read_with_its_description(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = RNG.integers(0, 2, (3, 4, 4))
        file["k"] = np.ones((3, 2))
    made = Hdf5(path=path, values="labels", spacing=1e-6, properties=("k",), units=("W/m/K",))
    structures = made.load(0)
    assert structures.specification.constituents == ("phase 0", "phase 1")
    assert structures.quantity("k").unit == "W/m/K"
    for wrong, says in (
        ({"values": "absent"}, "absent"),
        ({"path": tmp_path / "no.h5", "values": "x"}, "cannot be read"),
    ):
        with pytest.raises(DataError, match=says):
            Hdf5(**{"path": path, **wrong}).load(0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="units"):
        Hdf5(path=path, properties=("k",))


def test_pages_are_images_or_slices_as_they_say_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = (np.random.default_rng(0).random((5, 8, 9)) < 0.4).astype(np.uint8) * 255
    tifffile.imwrite(tmp_path / "pages.tif", pages)
    tifffile.imwrite(tmp_path / "slices.tif", pages, imagej=True, metadata={"axes": "ZYX", "spacing": 1.0})
    tifffile.imwrite(tmp_path / "times.tif", pages, imagej=True, metadata={"axes": "TYX"})
    reading = {"threshold": 127.0, "spacing": 1e-6}
    expected = {
        "pages.tif": ((5, 1, 8, 9), "5 images of 8 x 9 pixels; for one volume set dataset.dimensions_of = 3"),
        "slices.tif": ((1, 1, 5, 8, 9), "a volume of 5 slices of 8 x 9 pixels"),
        "times.tif": ((5, 1, 8, 9), "5 images of 8 x 9 pixels"),
    }
    for name, (shape, says) in expected.items():
        caplog.clear()
        with caplog.at_level("INFO", logger="msvae_microstructures"):
            found = Tiff(path=tmp_path / name, **reading).load(0)
        assert found.values.shape == shape
        assert says in caplog.text
    assert Tiff(path=tmp_path / "pages.tif", patch=(4, 4, 4), **reading).load(0).values.shape[2:] == (4, 4, 4)
    assert Tiff(path=tmp_path / "slices.tif", dimensions_of=2, **reading).load(0).values.shape == (5, 1, 8, 9)
    with pytest.raises(ValueError, match="patch has 2 numbers"):
        Tiff(path=tmp_path / "pages.tif", dimensions_of=2, patch=(4, 4, 4))


def test_png_and_npy_are_read_as_tiff_is(tmp_path: Path) -> None:
    from PIL import Image

    grey = (np.random.default_rng(3).random((9, 11)) * 255).astype(np.uint8)
    colour = np.stack([grey, grey, grey], axis=-1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey > 127).save(tmp_path / "binary.png")
    np.save(tmp_path / "array.npy", grey)
    np.save(tmp_path / "pages.npy", np.stack([grey, grey]))
    np.save(tmp_path / "binary.npy", grey > 127)
    tifffile.imwrite(tmp_path / "a.tif", grey)
    expected = Tiff(path=tmp_path / "a.tif", threshold=127.0, spacing=1e-6).load(0)
    for name in ("grey.png", "colour.png", "palette.png", "array.npy"):
        found = Images(path=tmp_path / name, threshold=127.0, spacing=1e-6).load(0)
        np.testing.assert_array_equal(found.values, expected.values, err_msg=name)
    for name, threshold in (("deep.png", 127 * 257.0), ("binary.png", 127.0), ("binary.npy", 0.5)):
        found = Images(path=tmp_path / name, threshold=threshold, spacing=1e-6).load(0)
        np.testing.assert_array_equal(found.values, expected.values, err_msg=name)
    assert len(Images(path=tmp_path / "pages.npy", spacing=1e-6).load(0)) == 2
    assert Images(path=tmp_path / "pages.npy", dimensions_of=3, spacing=1e-6).load(0).specification.grid.dimensions == 3
    (tmp_path / "cut.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("cut.png", "objects.npy"):
        with pytest.raises(DataError, match="cannot be read as an image"):
            Images(path=tmp_path / name, spacing=1e-6).load(0)
    with pytest.raises(DataError, match="does not state its pixel size"):
        Images(path=tmp_path / "grey.png").load(0)
