"""Archives: what goes in, what comes out elsewhere, and what a hostile one may not do."""

from __future__ import annotations

import io
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from msvae import Run, RunError
from msvae.archive.packing import inputs_of, pack, unpack
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae.cli.app import app

STUDY = """
campaign = "label"
title = "Pieces of an image"
[dataset]
name = "tiff"
path = "image.tif"
patch = [8, 8]
threshold = 128
spacing = 1e-6
[solver]
name = "conductivity"
phases = [{ conductivity = 1.0 }, { conductivity = 10.0 }]
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a run on an image; neither run nor image are there any more."""
    folder = tmp_path_factory.mktemp("made")
    image = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    tifffile.imwrite(folder / "image.tif", image)
    (folder / "study.toml").write_text(STUDY.replace("image.tif", str(folder / "image.tif")))
    launch(folder / "study.toml", folder / "run")
    place = pack(folder / "run", tmp_path_factory.mktemp("kept") / "run.zip")
    shutil.rmtree(folder)
    return place


def metadata(archive: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads(zipfile.ZipFile(archive).read("ro-crate-metadata.json"))["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def test_an_archive_reproduces_elsewhere_from_what_it_brings(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "moved.zip"
    shutil.copy(archive, place)
    said = CliRunner().invoke(app, ["reproduce", str(place)], catch_exceptions=False)
    assert "identical" in said.output
    assert len(Run.open(tmp_path / "moved-reproduced").evaluations) == 16
    with pytest.raises(RunError, match="is there already"):
        CliRunner().invoke(app, ["reproduce", str(place)], catch_exceptions=False)


def test_its_metadata_name_every_file_and_what_the_run_was(archive: Path) -> None:
    entities, content = metadata(archive), zipfile.ZipFile(archive)
    files = {name for name in content.namelist() if name != "ro-crate-metadata.json"}
    assert {e["@id"] for e in entities.values() if "File" in e["@type"]} == files
    assert {part["@id"] for part in entities["./"]["hasPart"]} == files
    for entity in entities.values():
        if entity["@type"] == "File":
            assert int(entity["contentSize"]) == content.getinfo(entity["@id"]).file_size
    assert entities["./"]["name"] == "Pieces of an image"
    run = entities["#run"]
    assert run["instrument"] == {"@id": "study.toml"}
    assert run["object"] == [{"@id": "inputs/0-image.tif"}]
    assert {"@id": "summary.json"} in run["result"]
    assert run["startTime"] <= run["endTime"]
    named = {value["@id"] for entity in entities.values() for item in entity.values()
             for value in (item if isinstance(item, list) else [item]) if isinstance(value, dict)}  # fmt: skip
    assert {n for n in named if not n.startswith("http")} <= set(entities)
    assert "numpy==" in content.read("requirements.txt").decode()
    assert not {"run.lock", "status.json"} & files


def test_the_validator_of_ro_crates_finds_no_fault(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the profile Workflow Run Crate, with the context that the package rocrate brings: no network."""
    services = pytest.importorskip("rocrate_validator.services")
    models = pytest.importorskip("rocrate_validator.models")
    context = Path(pytest.importorskip("rocrate").__file__).with_name("data") / "ro-crate.jsonld"
    loader = pytest.importorskip("rocrate_validator.utils.document_loader")
    own = json.loads(context.read_text())
    own["@context"]["ComputationalWorkflow"] = "https://bioschemas.org/ComputationalWorkflow"  # as in RO-Crate 1.1
    monkeypatch.setattr(loader, "_fetch_json_ld", lambda address: own)
    unpack(archive, tmp_path / "crate")
    settings = services.ValidationSettings(rocrate_uri=str(tmp_path / "crate"), profile_identifier="workflow-run-crate",
                                           requirement_severity=models.Severity.REQUIRED)  # fmt: skip
    issues = services.validate(settings).get_issues()
    faults = [f"{issue.check.identifier}: {issue.message}" for issue in issues]
    assert [fault for fault in faults if "w3id.org" not in fault] == []  # whether the context can be downloaded


def test_a_run_that_is_not_finished_and_a_file_that_is_there_are_refused(archive: Path, tmp_path: Path) -> None:
    unpack(archive, tmp_path / "run")
    with pytest.raises(RunError, match="is there already"):
        pack(tmp_path / "run", archive)
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        pack(tmp_path / "run", tmp_path / "new.zip")
    unpack(archive, tmp_path / "whole")
    with pytest.raises(RunError, match="cannot be written"):
        pack(tmp_path / "whole", tmp_path / "none" / "new.zip")


def test_a_strangers_archive_is_as_safe_as_a_strangers_run(archive: Path, tmp_path: Path) -> None:
    """Its inputs are read from what was unpacked, and only from there."""
    unpack(archive, tmp_path / "run")
    (settings,) = inputs_of(tmp_path / "run")
    assert settings == f"dataset.path='{(tmp_path / 'run' / 'inputs' / '0-image.tif').resolve()}'"
    with pytest.raises(RunError, match="which is not data of the run"):
        reproduce(tmp_path / "run", tmp_path / "again")
    for keys in (
        {"dataset.path": "../../secret.tif"},
        {"executor.name": "inputs/x"},
        {"dataset.path": "/etc/passwd"},
        [1],
    ):
        (tmp_path / "run" / "inputs.json").write_text(json.dumps(keys))
        with pytest.raises(RunError):
            inputs_of(tmp_path / "run")


def zipped(entries: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            file.writestr(info, content)
    return buffer.getvalue()


def as_link(info: zipfile.ZipInfo) -> None:
    if info.filename == "x":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16


def overstated(content: bytes) -> bytes:
    """Return a zip whose directory says that its first file is 4 GB."""
    return content.replace((7).to_bytes(4, "little"), (0xFFFFFFF0).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no archive"),
        (b"PK\3\4" + b"\0" * 100, "no archive"),
        (zipped({"a": b"x"}), "no study.toml"),
        (zipped({"study.toml": b"", "../x": b"evil"}), "no regular file"),
        (zipped({"study.toml": b"", "/tmp/x": b"evil"}), "no regular file"),
        (zipped({"study.toml": b"", "a/../../x": b"evil"}), "no regular file"),
        (zipped({"study.toml": b"", "a\\..\\x": b"evil"}), "no regular file"),
        (zipped({"study.toml": b"", "x": b"/etc/passwd"}, as_link), "no regular file"),
        (zipped({"study.toml": b"", "big": b"\0" * (1 << 26)})[:-200], "no archive"),
        (overstated(zipped({"study.toml": b"1234567"})), "claims 4294967280 bytes"),
    ],
)  # fmt: skip
def test_hostile_archives_write_nothing(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    place = tmp_path / "in" / "evil.zip"
    place.write_bytes(content)
    with pytest.raises(RunError, match=why):
        unpack(place, tmp_path / "in" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "evil.zip"]


def test_damaged_archives_are_one_sentence(archive: Path, tmp_path: Path) -> None:
    rng, content = np.random.default_rng(5), archive.read_bytes()
    for k in range(60):
        data = bytearray(content)
        for place in rng.integers(0, len(data), 4):
            data[place] ^= int(rng.integers(1, 256))
        (tmp_path / "bad.zip").write_bytes(bytes(data[: None if k % 3 else int(rng.integers(len(data)))]))
        try:
            unpack(tmp_path / "bad.zip", tmp_path / f"out{k}")
        except RunError:
            assert not (tmp_path / f"out{k}").exists()
