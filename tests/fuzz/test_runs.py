"""Run directories and folders of images with something wrong: one sentence, or they work; never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from msvae import DataError, MsvaeError, Run, RunError, StudyError
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae.report.page import write_report
from msvae.run.status import status_of

STUDY = """
campaign = "{campaign}"
[dataset]
name = "simulated"
count = 8
shape = [8, 8]
length = [3e-6, 3e-6]
[solver]
name = "conductivity"
phases = [{{ conductivity = 1.0 }}, {{ conductivity = 10.0 }}]
[architecture]
name = "perceptron"
width = 8
[model]
latents = 2
features = 8
[training]
epochs = 1
"""
DAMAGE = [b"", b"[]", b"{}", b"null", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"title": 3}', b'{"packages": 1}',
          b'{"state": {}}', b'{"title": "", "columns": ["a"], "rows": [[1]], "notes": 1}', b'[{"x": "y"}]']  # fmt: skip


def clean(do: Callable[[], object]) -> None:
    """Let a call succeed, or end in one sentence."""
    said = "nothing"
    try:
        do()
    except MsvaeError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a study and its run."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "study.toml").write_text(STUDY.format(campaign="train"))
    launch(folder / "study.toml", folder / "run")
    return folder


@pytest.mark.parametrize("content", DAMAGE, ids=lambda c: repr(c[:12]))
@pytest.mark.parametrize("name", ["summary.json", "provenance.json", "status.json", "training.json", "prior.json"])
def test_a_damaged_file_of_a_run_is_one_sentence(made: Path, tmp_path: Path, name: str, content: bytes) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    (run / name).write_bytes(content)
    clean(lambda: status_of(run))
    clean(lambda: write_report(run))
    clean(lambda: launch(made / "study.toml", run, resume=True))
    if content in DAMAGE[:5] and name in ("summary.json", "provenance.json"):
        (run / name).write_bytes(content)
        clean(lambda: reproduce(run, tmp_path / "again"))


def test_what_is_damaged_is_named(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    (run / "summary.json").write_text('{"title": "x"}')
    with pytest.raises(RunError, match=r"summary\.json' is damaged \(columns: .* delete it"):
        write_report(run)
    (run / "summary.json").unlink()
    (run / "provenance.json").write_text("[]")
    with pytest.raises(RunError, match=r"provenance\.json' is damaged"):
        write_report(run)


def test_a_run_may_be_a_link_and_is_replaced_where_it_leads(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    launch(made / "study.toml", tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert Run.open(tmp_path / "real").model_file.exists()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    clean(lambda: launch(made / "study.toml", tmp_path / "dangling", force=True))


@pytest.mark.parametrize("output", ["/proc/none/run", "/dev/null/run", "/dev/null", "{study}/run", "x" * 300, "/sys"])
def test_an_output_that_cannot_be_made_is_said(made: Path, tmp_path: Path, output: str) -> None:
    with pytest.raises(RunError, match="give an"):
        launch(made / "study.toml", tmp_path / output.format(study=made / "study.toml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(made: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match="cannot be"):
        launch(made / "study.toml", tmp_path / "closed")
    with pytest.raises(RunError, match="cannot be created"):
        launch(made / "study.toml", tmp_path / "closed" / "run")


@pytest.mark.parametrize("words", [["run"], ["status"], ["report"], ["reproduce"], ["run", "--resume"]])
def test_paths_that_are_no_text_work_or_are_said(made: Path, tmp_path: Path, words: list[str]) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(made, folder)
    again = words == ["run"]
    named = ["study.toml", "--output", "new" if again else "run"] if words[0] == "run" else ["run"]
    paths = [f"{folder}/{word}" if word in ("study.toml", "new", "run") else word for word in named]
    found = subprocess.run(
        [sys.executable, "-m", "msvae", *words, *paths], capture_output=True, cwd=folder, timeout=100, check=False
    )
    assert found.returncode in (0, 2), found.stderr
    assert b"Traceback" not in found.stderr, found.stderr.decode(errors="replace")


@pytest.mark.parametrize(
    ("key", "value"),
    [("cache.path", '"a\\u0000b"'), ("plugin_files", '["a\\u0000b"]'), ("dataset", '{name="tiff", path="a\\u0000b"}'),
     ("dataset", '{name="hdf5", path="a\\u0000b"}'), ("executor.name", '".x:y"'), ("executor.name", '"os:getcwd"')],
)  # fmt: skip
def test_names_that_no_file_can_have_are_said(made: Path, tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(MsvaeError):
        launch(made / "study.toml", tmp_path / "run", overrides=[f"{key}={value}"])
    assert not (tmp_path / "run").exists()


def image_study(folder: Path, images: dict[bytes, np.ndarray]) -> Path:
    """Write images and a study that trains on them."""
    pictures = os.fsencode(folder) + b"/images"
    os.mkdir(pictures)
    for name, image in images.items():
        tifffile.imwrite(os.fsdecode(pictures + b"/" + name), image.astype(np.uint8))
    text = STUDY.format(campaign="train")
    start, end = text.index("[dataset]"), text.index("[solver]")
    table = '[dataset]\nname = "tiff"\npath = "' + f"{folder}/images" + '"\nthreshold = 0.5\nspacing = 1e-6\n'
    (folder / "study.toml").write_text(text[:start] + table + text[end:])
    return folder / "study.toml"


def test_images_that_are_all_alike_are_said(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 2, (8, 8))
    study = image_study(tmp_path, {b"%d.tif" % k: image for k in range(6)})
    with pytest.raises(DataError, match="all alike"):
        launch(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_files_beside_the_images_do_no_harm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [b"%d.tif" % k for k in range(7)] + [b"caf\xe9.tif"]
    study = image_study(tmp_path, {name: rng.integers(0, 2, (8, 8)) for name in names})
    for name in ("Thumbs.db", ".DS_Store", "._1.tif", "desktop.ini", "~$1.tif"[2:] + ".bak"):
        (tmp_path / "images" / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "images" / "more.tif").mkdir()
    launch(study, tmp_path / "run", overrides=["training.gap=0"])
    assert len(Run.open(tmp_path / "run").structures) == 8
    write_report(tmp_path / "run")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_said(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    study = image_study(tmp_path, {b"%d.tif" % k: rng.integers(0, 2, (8, 8)) for k in range(count)})
    with pytest.raises((DataError, StudyError), match="held_back"):
        launch(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()
