"""`msvae doctor`: what would stop a run is found, named with its remedy, and gives exit code 1; all else does not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msvae.cli.app import app
from msvae.plugins import registry
from msvae.plugins.registration import Refused
from msvae.start.doctor import folders, machine, parallel


def examine(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit code, and the findings by what was looked at; the last of several."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments], catch_exceptions=False)
    return result.exit_code, {row["what"]: row for row in json.loads(result.stdout)}


def test_everything_is_looked_at_and_what_is_wrong_has_a_remedy(tmp_path: Path) -> None:
    code, found = examine("--folder", str(tmp_path / "runs" / "not-yet"))
    assert {"versions", "MPI", "C kernels", "instructions", "threads", "memory", "devices", "write speed",
            "file locking", "free space", "plugins"} <= set(found)  # fmt: skip
    assert code == int(any(row["state"] == "wrong" for row in found.values()))
    assert all(bool(row["remedy"]) == (row["state"] != "fine") for row in found.values())
    assert all("\n" not in row["remedy"] for row in found.values())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_a_run() -> None:
    code, found = examine("--folder", "/proc/none")
    assert code == 1
    assert "give another --output" in found["folder"]["remedy"]


def test_a_plugin_that_did_not_load_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry(), "refused", [Refused("theirs", "their-package", "ImportError: no module 'x'")])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "pip install --upgrade their-package" in result.stdout
    assert "1 would stop a run" in result.stdout


def test_without_a_compiler_kernels_of_a_wheel_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSVAE_NO_COMPILER", raising=False)
    monkeypatch.setattr(machine, "_brought", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert (machine.compiled().state, "install a C compiler" in machine.compiled().remedy) == ("note", True)
    monkeypatch.setattr(machine, "_brought", lambda: 5)
    assert machine.compiled().state == "fine"


def test_a_compiler_that_fails_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MSVAE_NO_COMPILER", raising=False)
    monkeypatch.setattr(machine, "_brought", lambda: 0)
    assert "no space left" in machine.compiled().value


def test_a_launcher_of_another_mpi_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, str] = {"-c": "MPICH Version: 5.0", "--version": "mpiexec (OpenRTE) 4.1.4"}

    def answer(command: list[str]) -> tuple[str, str]:
        return said[command[1]], ""

    monkeypatch.setattr(parallel, "_said", answer)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert [f.state for f in parallel.mpi()] == ["fine", "wrong"]
    said["--version"] = "HYDRA build details:"
    assert [f.state for f in parallel.mpi()] == ["fine", "fine"]
    monkeypatch.setattr(parallel, "_said", lambda command: ("", "libmpi.so.12: cannot open shared object file"))
    found = list(parallel.mpi())
    assert [(f.state, "libmpi.so.12" in f.value) for f in found] == [("wrong", True)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [f.state for f in parallel.mpi()] == ["note"]  # a run needs no MPI


def test_more_threads_than_cores_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert {f.what: f.state for f in machine.processor()}["threads"] == "note"


def test_a_file_system_without_locks_has_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("unable to lock file")

    monkeypatch.setattr(folders.h5py, "File", refuse)
    found = {f.what: f for f in folders.folder(tmp_path)}["file locking"]
    assert (found.state, "HDF5_USE_FILE_LOCKING" in found.remedy) == ("wrong", True)
