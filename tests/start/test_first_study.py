"""`msvae study new`: what it says is so, each study that it writes runs, and what cannot be learnt from is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from msvae import MsvaeError, Structures, Study
from msvae.campaigns.launch import launch
from msvae.cli.app import app
from msvae.files.structures import structures_to_bytes
from msvae.start.first_study import CAMPAIGNS, Wanted, first_study
from msvae.start.images import look_at_images
from msvae.start.look import SIMULATED, look
from msvae.start.pieces import cut_of
from msvae.start.pixels import mean_chords, otsu, percolating
from msvae.start.seen import Asked, Seen

Write = Callable[[Path], Path]
SMALL = ["training.epochs=1", "design.budget=4", "design.control_budget=2", "structure_head.epochs=1",
         "generate.samples=1", "model.features=8", "design.call_seconds=1.0"]  # fmt: skip


def field(*shape: int, seed: int = 0) -> np.ndarray:
    """Return a smooth random field, 8 bit, with features of some 4 voxels."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2.0, mode="wrap")
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def small_settings(text: str) -> list[str]:
    """Return what makes a study small: those settings whose tables it has."""
    limit = ["label.limit=12"] if 'campaign = "label"' in text else []
    return limit + [setting for setting in SMALL if f"[{setting.split('.')[0]}]" in text]


def pngs(folder: Path) -> Path:
    for k in range(3):
        Image.fromarray(field(64, 80, seed=k)).convert("RGB").save(folder / f"grain{k}.png")
    (folder / ".hidden.png").write_bytes(b"no image")
    return folder


def slices(folder: Path) -> Path:
    for k, page in enumerate(field(24, 40, 40) > 120):
        tifffile.imwrite(folder / f"slice{k:03}.tif", page.astype(np.uint8) * 170)
    return folder


def array(folder: Path) -> Path:
    np.save(folder / "image.npy", (field(64, 64) // 86).astype(np.uint8))
    return folder / "image.npy"


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "frames.h5", "w") as file:
        file["phase"] = (field(60, 16, 16) > 128).astype(np.int8)
    return folder / "frames.h5"


def own_file(folder: Path) -> Path:
    (folder / "own.h5").write_bytes(
        structures_to_bytes(Structures.from_labels(field(60, 16, 16) > 128, 1e-6, phases=2))
    )
    return folder / "own.h5"


def rows(n: int) -> list[list[str]]:
    shares = np.random.default_rng(1).dirichlet((2.0, 2.0, 2.0), n).round(3)
    return [[f"Fe{a}Ni{b}Cr{c}", str(int(a > 0.4)), f"{100 * b:.2f}"] for a, b, c in shares]


def csv_table(folder: Path) -> Path:
    lines = [["alloy", "single phase", "hardness"], *rows(40)]
    (folder / "alloys.csv").write_text("\n".join(";".join(line) for line in lines))
    return folder / "alloys.csv"


def sheet(folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in [["alloy", "class", "hardness"], *([a, int(b), float(c)] for a, b, c in rows(40))]:
        book.active.append(line)
    book.save(folder / "alloys.xlsx")
    return folder / "alloys.xlsx"


@pytest.mark.parametrize(
    ("write", "wanted", "words"),
    [
        (pngs, Wanted("label"), "3 images of 64 rows x 80 columns from 3 files"),
        (slices, Wanted("label", property="stiffness"), "a volume of 24 slices x 40 rows x 40 columns from 24 files"),
        (array, Wanted(), "3 different grey values, 0, 1, 2: labels of phases"),
        (hdf5, Wanted("train"), "array 'phase': 60 structures of 16 x 16 voxels"),
        (own_file, Wanted("generate"), "60 structures of kind 'phases' as msvae writes them"),
        (csv_table, Wanted(), "40 alloys of 3 elements (Cr, Fe, Ni)"),
        (sheet, Wanted(property="hardness"), "'class': classes"),
    ],
)
def test_what_is_seen_is_said_and_the_study_runs(write: Write, wanted: Wanted, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    seen = look(write(folder), Asked())
    assert words in "\n".join(seen.said)
    text = first_study(seen, wanted)
    (tmp_path / "study.toml").write_text(text)
    table = launch(tmp_path / "study.toml", tmp_path / "run", overrides=small_settings(text))
    assert table is not None
    assert table.rows


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_a_study_from_nothing_runs(campaign: str, tmp_path: Path) -> None:
    study = tmp_path / "new" / "study.toml"
    result = CliRunner().invoke(app, ["study", "new", campaign, "--output", str(study)], catch_exceptions=False)
    assert "--dry-run" in result.stdout
    small = [*small_settings(study.read_text()), "dataset.count=40", "dataset.shape=[8, 8]"]
    assert launch(study, tmp_path / "run", overrides=small) is not None
    with pytest.raises(MsvaeError, match="is there already: give another --output, or replace it by --force"):
        CliRunner().invoke(app, ["study", "new", campaign, "--output", str(study)], catch_exceptions=False)


def test_a_threshold_parts_what_is_apart_and_labels_are_kept() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(60, 8, 4000), rng.normal(180, 8, 1000)]).clip(0, 255).astype(np.uint8)
    level, share = otsu(two)
    assert 90 < level < 150
    assert share > 0.95
    assert otsu(rng.normal(0, 1, 100_000))[1] == pytest.approx(2 / np.pi, abs=0.01)  # of a normal distribution
    assert otsu(np.array([[0.0, 1.0], [1.0, 1.0]]))[0] < 1.0


def test_a_phase_percolates_only_from_side_to_side_of_an_image() -> None:
    stripes = np.zeros((6, 6), dtype=bool)
    stripes[2] = True
    assert percolating(stripes) == (False, True)
    assert percolating(~stripes) == (False, True)
    stairs = np.eye(6, dtype=bool) | np.eye(6, k=1, dtype=bool)
    assert percolating(stairs) == (True, True)
    assert percolating(np.eye(6, dtype=bool)) == (False, False)  # corners do not connect
    np.testing.assert_allclose(mean_chords(stripes), [1.0, 6.0])


def test_pages_are_slices_where_neighbours_resemble_each_other_more_than_distant_ones(tmp_path: Path) -> None:
    volume, images = field(24, 40, 40), np.stack([field(40, 40, seed=k) for k in range(24)])
    for name, pages in (("volume", volume), ("images", images)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pages, photometric="minisblack")
    assert look_at_images(tmp_path / "volume.tif", Asked()).dataset["dimensions_of"].value == 3
    assert look_at_images(tmp_path / "images.tif", Asked()).dataset["dimensions_of"].value == 2
    assert look_at_images(tmp_path / "volume.tif", Asked(dimensions=2)).dataset["dimensions_of"].value == 2


def test_the_voxel_size_is_the_files_or_the_users_or_marked_as_a_placeholder(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "known.tif", field(80, 80), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "unknown.tif", field(80, 80))
    known = look_at_images(tmp_path / "known.tif", Asked())
    assert "spacing" not in known.dataset
    assert "voxel size: 5e-07 x 5e-07 m" in known.said[1]
    assert "PLACEHOLDER" in look_at_images(tmp_path / "unknown.tif", Asked()).dataset["spacing"].comment
    assert look_at_images(tmp_path / "unknown.tif", Asked(spacing=2e-6)).dataset["spacing"].value == 2e-6


def test_pieces_are_counted_as_the_data_set_cuts_them(tmp_path: Path) -> None:
    for seed, size in enumerate([(50, 70), (200, 300), (900, 900)]):
        tifffile.imwrite(tmp_path / "image.tif", field(*size, seed=seed))
        seen = look_at_images(tmp_path / "image.tif", Asked())
        assert f"{len(seen.plugin().load(0))} pieces" in seen.dataset["patch"].comment
    assert cut_of("x", (1000, 1000), 1, 4.0).count <= 600
    assert cut_of("x", (28, 28), 500, 4.0).patch == (28, 28)


def test_pieces_of_one_phase_are_said(tmp_path: Path) -> None:
    image = np.zeros((128, 128), dtype=np.uint8)
    image[:40] = field(40, 128) > 128
    Image.fromarray(image * 255).save(tmp_path / "half.png")
    assert "of the pieces have one phase only" in first_study(look(tmp_path / "half.png", Asked()), Wanted("label"))
    Image.fromarray(field(128, 128)).save(tmp_path / "whole.png")
    assert "one phase only" not in first_study(look(tmp_path / "whole.png", Asked()), Wanted("label"))


def test_a_name_in_a_file_writes_no_line_of_the_study(tmp_path: Path) -> None:
    lines = [["alloy", '"hard\nplugin_files = [""x.py""]"', "b"], *rows(40)]
    (tmp_path / "alloys.csv").write_text("\n".join(",".join(line) for line in lines))
    study = Study.parse(first_study(look(tmp_path / "alloys.csv", Asked()), Wanted(property="b")))
    assert study.plugin_files == ()
    assert study.model.heads == ("b",)


def test_further_settings_of_a_solver_stand_as_comments_with_their_defaults() -> None:
    text = first_study(SIMULATED, Wanted("label", solver="permeability"))
    line = next(line for line in text.splitlines() if line.startswith("# pores = "))
    assert "fluid" in line.partition("  # ")[2]
    assert Study.parse(text.replace("# pores = ", "pores = ")).solver == Study.parse(text).solver


def alike(folder: Path) -> None:
    for k in range(3):
        tifffile.imwrite(folder / f"{k}.tif", field(64, 64))


def nan(folder: Path) -> None:
    tifffile.imwrite(folder / "a.tif", np.where(field(64, 64) > 100, np.nan, 1.0).astype(np.float32))


def truncated(folder: Path) -> None:
    tifffile.imwrite(folder / "a.tif", field(64, 64))
    (folder / "a.tif").write_bytes((folder / "a.tif").read_bytes()[:300])


def hidden(folder: Path) -> None:
    (folder / "._a.tif").write_bytes(b"what macOS keeps")


def short_table(folder: Path) -> None:
    (folder / "a.csv").write_text("alloy,hardness\nFeNi,1.0\n")


@pytest.mark.parametrize(
    ("write", "file", "why"),
    [
        (lambda folder: None, ".", "has no image"),
        (hidden, ".", "has no image"),
        (lambda folder: tifffile.imwrite(folder / "a.tif", field(10, 10)), ".", "1 image of 10 x 10 voxels"),
        (lambda folder: tifffile.imwrite(folder / "a.tif", np.full((64, 64), 7, np.uint8)), ".", "grey value 7"),
        (alike, ".", "its 3 images are all alike"),
        (nan, ".", "holds NaN or infinite grey values"),
        (truncated, ".", "cannot be read as an image"),
        (lambda folder: (folder / "a.h5").write_bytes(b"nothing"), "a.h5", "a.h5"),
        (lambda folder: (folder / "a.stl").write_text(""), "a.stl", "has the ending '.stl'"),
        (lambda folder: None, "none.tif", "does not exist"),
        (short_table, "a.csv", "has 1 alloys, expected 10"),
    ],
)
def test_what_cannot_be_learnt_from_is_said_in_one_sentence(
    write: Callable[[Path], object], file: str, why: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(MsvaeError, match=why) as found:
        look(tmp_path / file, Asked())
    assert found.value.code == 2
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("seen", "wanted", "why"),
    [
        (SIMULATED, Wanted("push-forward"), "a first study is one of label, train"),
        (SIMULATED, Wanted(solver="conductivty"), "did you mean 'conductivity'"),
        (SIMULATED, Wanted(property="stifness"), "did you mean 'stiffness'"),
        (SIMULATED, Wanted(solver="conductivity", property="stiffness"), "computes conductivity, not 'stiffness'"),
        (SIMULATED, Wanted(solver="lammps-energy"), "choose another with --solver|no example"),
    ],
)
def test_a_wish_that_cannot_be_met_is_said_in_one_sentence(seen: Seen, wanted: Wanted, why: str) -> None:
    with pytest.raises(MsvaeError, match=why):
        first_study(seen, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ti64", "powder", "electrode", "berea"])
def test_real_images_give_studies_that_run(name: str, data: Path, tmp_path: Path) -> None:
    text = first_study(look(data / name, Asked()), Wanted())
    (tmp_path / "study.toml").write_text(text)
    small = [*small_settings(text), "dataset.region=[[0, 96], [0, 96], [0, 96]]" if name != "ti64" else "seed=2"]
    small = [s.replace("[0, 96], [0, 96], [0, 96]", "[0, 64], [0, 96], [0, 96]") for s in small]
    assert launch(tmp_path / "study.toml", tmp_path / "run", overrides=small) is not None
