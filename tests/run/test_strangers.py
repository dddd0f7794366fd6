"""Files of strangers: whatever is in them, opening them is one clean error or the truth, and nothing else happens."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import msvae
from msvae import MsvaeError, Run, RunError, Study
from msvae.campaigns.launch import launch
from msvae.cli.solving import structures_of_file
from msvae.files.atomic import write_atomically
from msvae.files.evaluations import evaluations_to_bytes, read_evaluations
from msvae.files.structures import read_structures, structures_to_bytes
from msvae.plugins.conformance import example_structures
from msvae.run.status import status_of
from msvae.structures.evaluations import Evaluation, Evaluations
from msvae.vae.files import load_model

FEW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DAMAGE = st.tuples(
    st.integers(0, 10**6),  # where a byte is changed
    st.integers(0, 255),  # how
    st.one_of(st.none(), st.integers(0, 10**6)),  # where the file is cut
    st.binary(max_size=20),  # what is put in
)


def damaged(content: bytes, damage: tuple[int, int, int | None, bytes]) -> bytes:
    """Return a content with a byte changed, something inserted, and its end cut off."""
    where, flip, cut, more = damage
    array = bytearray(content)
    array[where % len(array)] ^= flip
    at = where % len(array)
    array[at:at] = more
    return bytes(array[: len(array) if cut is None else cut % (len(array) + 1)])


def clean(read: Callable[[], object]) -> bool:
    """Return whether a call raises nothing but an error with one sentence; any other exception passes."""
    try:
        read()
    except MsvaeError as error:
        return bool(str(error)) and "\n" not in str(error)
    return True


@given(DAMAGE)
@example((112, 10, None, b""))  # the end of the first line
@FEW
def test_damaged_evaluations(tmp_path: Path, damage: tuple[int, int, int | None, bytes]) -> None:
    rows = [Evaluation(k, f"{k:016x}", "done", {"q": np.array([1.0, k])}, latents=np.ones(2)) for k in range(5)]
    content = evaluations_to_bytes(Evaluations.of(rows))
    path = tmp_path / "e.h5"
    path.write_bytes(damaged(content, damage))
    if path.read_bytes() == content:
        assert len(read_evaluations(path)) == 5
    else:
        with pytest.raises(RunError, match="restore it"):
            read_evaluations(path)


@given(DAMAGE)
@FEW
def test_damaged_structures(tmp_path: Path, damage: tuple[int, int, int | None, bytes]) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(damaged(structures_to_bytes(example_structures("phases", 2, 3)), damage))
    assert clean(lambda: read_structures(path))


@given(DAMAGE)
@FEW
def test_damaged_images(tmp_path: Path, damage: tuple[int, int, int | None, bytes]) -> None:
    path = tmp_path / "i.tif"
    image = (np.arange(900).reshape(30, 30) % 251).astype(np.uint8)
    tifffile.imwrite(path, image, compression="lzw", resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    path.write_bytes(damaged(path.read_bytes(), damage))
    assert clean(lambda: structures_of_file(path, {}))
    array = tmp_path / "a.npy"
    np.save(array, image)
    array.write_bytes(damaged(array.read_bytes(), damage))
    assert clean(lambda: structures_of_file(array, {}))


@given(DAMAGE)
@FEW
def test_damaged_studies(tmp_path: Path, damage: tuple[int, int, int | None, bytes]) -> None:
    text = (
        'campaign = "label"\nseed = 3\n[dataset]\nname = "simulated"\ncount = 24\nshape = [8, 8]\n[solver]\n'
        'name = "conductivity"\nphases = [{ conductivity = 1.0 }, { conductivity = 10.0 }]\n[executor]\nworkers = 2\n'
    )
    path = tmp_path / "study.toml"
    path.write_bytes(damaged(text.encode(), damage))
    assert clean(lambda: Study.load(path))


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "x" * 100_000, "campaign = 1979-05-27", "seed = 1e999", "\0"])
def test_absurd_studies(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(MsvaeError):
        Study.load(path)
    with pytest.raises(MsvaeError):
        _ = Run.open(tmp_path).study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small run with a model and a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "study.toml").write_text(
        'campaign = "train"\n[dataset]\nname = "simulated"\ncount = 24\nshape = [8, 8]\nlength = [3e-6, 3e-6]\n'
        '[architecture]\nname = "perceptron"\nwidth = 16\n[model]\nlatents = 3\nfeatures = 16\n[training]\nepochs = 2\n'
    )
    launch(folder / "study.toml", folder / "run")
    return folder / "run"


@given(DAMAGE, st.sampled_from(["model.safetensors", "model.toml", "status.json", "provenance.json"]))
@FEW
def test_damaged_runs(trained: Path, tmp_path: Path, damage: tuple[int, int, int | None, bytes], name: str) -> None:
    for file in ("model.safetensors", "model.toml", "status.json", "provenance.json", "study.toml"):
        (tmp_path / file).write_bytes((trained / file).read_bytes())
    (tmp_path / name).write_bytes(damaged((trained / name).read_bytes(), damage))
    assert clean(lambda: load_model(tmp_path / "model.safetensors"))
    assert clean(lambda: status_of(tmp_path))
    assert clean(lambda: Run.open(tmp_path).read_json("provenance.json"))


def test_hdf5_that_points_elsewhere_shows_nothing(tmp_path: Path) -> None:
    """Links to other files, raw values in other files, views of other files."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["values"] = np.ones((2, 1, 4, 4), dtype=np.uint8)
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(range(32)))
    layout = h5py.VirtualLayout(shape=(2, 1, 4, 4), dtype="u1")
    layout[...] = h5py.VirtualSource(str(secret), "values", shape=(2, 1, 4, 4))
    for how in ("external link", "soft link", "external storage", "virtual"):
        path = tmp_path / "s.h5"
        path.write_bytes(structures_to_bytes(msvae.Structures.from_labels(np.zeros((2, 4, 4), dtype=int), phases=3)))
        with h5py.File(path, "a") as file:
            del file["values"]
            if how == "external link":
                file["values"] = h5py.ExternalLink(str(secret), "values")
            elif how == "soft link":
                file["values"] = h5py.SoftLink("/elsewhere")
            elif how == "external storage":
                file.create_dataset("values", (2, 1, 4, 4), "u1", external=[(str(raw), 0, 32)])
            else:
                file.create_virtual_dataset("values", layout)
        with pytest.raises(MsvaeError, match=r"is a link, not a part|stand in another file"):
            read_structures(path)


def test_no_path_leads_out_of_a_run(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file()
    launch(study, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"figures' is a link that leads out of the run"):
        Run.open(tmp_path / "run")
    (tmp_path / "run" / "figures").unlink()
    frozen = tmp_path / "run" / "study.toml"
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    plain = frozen.read_text().replace("plugin_files = []\n", "")
    for name in ("../evil.py", str(tmp_path / "evil.py"), "plugins/../../evil.py"):
        frozen.write_text(f'plugin_files = ["{name}"]\n' + plain)
        with pytest.raises(RunError, match="would be executed"):
            _ = Run.open(tmp_path / "run").study
        with pytest.raises(RunError, match="is not in the run"):
            _ = Run.open(tmp_path / "run", trust=True).study
    (tmp_path / "run" / "plugins").mkdir()
    os.symlink(tmp_path / "evil.py", tmp_path / "run" / "plugins" / "evil.py")
    frozen.write_text('plugin_files = ["plugins/evil.py"]\n' + plain)
    with pytest.raises(RunError, match="is not in the run"):
        _ = Run.open(tmp_path / "run", trust=True).study
    assert not (tmp_path / "executed").exists()


def test_a_run_is_not_resumed_with_a_plugin_file_that_was_exchanged(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    observer = "import msvae\n@msvae.hook\ndef msvae_evaluated(evaluation):\n    pass\n"
    (tmp_path / "seen.py").write_text(observer)
    study = study_file()
    study.write_text('plugin_files = ["seen.py"]\n' + study.read_text())
    launch(study, tmp_path / "run")
    (tmp_path / "run" / "plugins" / "seen.py").write_text(observer + "raise SystemExit\n")
    with pytest.raises(RunError, match=r"made with another plugin file 'seen\.py'"):
        launch(study, tmp_path / "run", resume=True)


def test_nothing_that_is_stored_is_a_pickle(trained: Path) -> None:
    for path in trained.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))


def test_a_file_that_claims_more_than_it_holds_takes_no_memory(tmp_path: Path, trained: Path) -> None:
    """Each of these took gigabytes, of nothing, before it was refused."""
    path = tmp_path / "s.h5"
    for how in ("shape", "never written"):
        path.write_bytes(structures_to_bytes(example_structures("phases", 2, 3)))
        with h5py.File(path, "a") as file:
            if how == "shape":
                file.attrs["shape"] = [8, 1 << 33]
            else:
                del file["values"]
                file.create_dataset("values", (1 << 33, 8), "u1", chunks=(1 << 20, 8))
        with pytest.raises(MsvaeError, match=r"take 8589934592 bytes each|claims 68719476736 bytes"):
            read_structures(path)
    image = tmp_path / "i.tif"
    tifffile.imwrite(image, np.zeros((30, 30), dtype=np.uint8))
    with tifffile.TiffFile(image, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(1 << 18)
    with pytest.raises(MsvaeError, match="claims 68719476736 bytes of pixels"):
        structures_of_file(image, {"spacing": 1e-6})
    for name in ("model.safetensors", "model.toml"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    text = (tmp_path / "model.toml").read_text()
    for key in ("latents", "features"):
        (tmp_path / "model.toml").write_text(re.sub(rf"^{key} = .*$", f"{key} = 1000000000", text, flags=re.M))
        with pytest.raises(RunError, match="weights of another model"):
            load_model(tmp_path / "model.safetensors")


def test_a_link_under_the_name_of_a_file_that_is_being_written_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "report.html", b"ours")
    assert (tmp_path / "outside").read_text() == "theirs"
    write_atomically(tmp_path / "report.html", b"ours")
    assert (tmp_path / "report.html").read_bytes() == b"ours"
