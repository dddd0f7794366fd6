"""Runs of strangers: reading one executes nothing, touches nothing outside of it, does not hang, says one sentence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile import CASES, STUDY
from matplotlib.figure import Figure
from safetensors.torch import save

from msvae import DataError, MsvaeError, Run, RunError, cli
from msvae.campaigns.launch import launch
from msvae.cli.solving import structures_of_file
from msvae.files.structures import structures_to_bytes
from msvae.plugins.conformance import example_structures
from msvae.report.page import write_report
from msvae.vae.files import load_tensors

HANG = 20  # seconds, on a machine that does something else too
WATCHED: list[str] = []  # folders that nobody may open a file of
SEEN: list[str] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and WATCHED and isinstance(arguments[0], str):
        path = os.path.realpath(arguments[0])
        SEEN.extend(path for folder in WATCHED if path.startswith(folder))


sys.addaudithook(_hook)


class Hang(BaseException):
    """What ends a test that does not come to an end."""


@contextmanager
def guard() -> Iterator[None]:
    """End what hangs."""

    def end(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run as it is."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "study.toml").write_text(STUDY)
    launch(folder / "study.toml", folder / "run")
    write_report(folder / "run")
    return folder / "run"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder outside of the run, in which nothing may be read, changed or made."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary.json").write_text('{"state": "done"}')
    (folder / "canary.py").write_text(f"open({str(folder / 'executed')!r}, 'w')")
    (folder / "study.toml").write_text(STUDY)
    (folder / "secret.h5").write_bytes(structures_to_bytes(example_structures("phases", 2, 3)))
    return folder


@pytest.fixture
def stranger(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the run, from which we work."""
    shutil.copytree(real, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda _, buffer, **__: buffer.write(b"pixels"))  # half of the tests' time
    return tmp_path / "run"


def content(folder: Path) -> dict[str, object]:
    """Return what is in a folder, and when it was changed."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in sorted(folder.rglob("*"))}


def read(run: Path) -> bool:
    """Read everything that a run gives; return whether it did."""
    try:
        opened = Run.open(run)
        for part in ("study", "evaluations", "structures", "labelled", "model"):
            getattr(opened, part)
        opened.read_json("training.json")
    except MsvaeError as error:
        sentence = str(error)
    else:
        return True
    assert "\n" not in sentence
    assert plain(sentence)
    return False


def plain(text: str) -> bool:
    """Return whether a terminal does nothing with a text but show it."""
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


def said(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> bool:
    """Run the command line; return whether it succeeded, and else one sentence and the exit code 2 were its answer."""
    monkeypatch.setattr(sys, "argv", ["msvae", *arguments])
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    out, errors = capsys.readouterr()
    assert plain(out)
    assert plain(errors)
    assert code in (0, 2), errors
    if code:
        assert len([line for line in errors.splitlines() if line.startswith("msvae: ")]) == 1, errors
        assert errors.splitlines()[-1].startswith("msvae: "), errors
    return code == 0


def quick(name: str, command: str) -> bool:
    """Return whether a test is no repetition of another one, with another file, that draws a whole report."""
    few = ("deep", "rows", "tables")
    return command != "report" or not name.endswith(".json") or name.split(" in ")[0] in few or " in " not in name


@pytest.mark.parametrize(
    ("name", "command"),
    [pytest.param(name, command, marks=[] if quick(name, command) else pytest.mark.slow)
     for name in CASES for command in ("open", "status", "report")],
)  # fmt: skip
def test_a_strangers_run(
    name: str, command: str, stranger: Path, outside: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    CASES[name].make(stranger, outside)
    check(name, command, stranger, outside, monkeypatch, capsys)
    page = stranger / "report.html"
    assert not page.is_file() or page.is_symlink() or "<script" not in page.read_text(errors="replace")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "reproduce" in case.refused])
def test_a_strangers_run_is_not_reproduced(
    name: str, stranger: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES[name].make(stranger, outside)
    check(name, "reproduce", stranger, outside, monkeypatch, capsys)
    assert not (stranger.parent / "run-reproduced").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "reproduce" not in case.refused])
def test_a_strangers_run_is_reproduced_or_not(
    name: str, stranger: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES[name].make(stranger, outside)
    check(name, "reproduce", stranger, outside, monkeypatch, capsys)


def check(
    name: str, command: str, run: Path, outside: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Give a run to a command: it must not touch the outside, and must refuse what it has to."""
    before = content(outside)
    SEEN.clear()
    WATCHED[:] = [os.path.realpath(outside)]
    try:
        with guard():
            done = read(run) if command == "open" else said([command, str(run)], monkeypatch, capsys)
    finally:
        WATCHED.clear()
    assert not SEEN
    assert content(outside) == before
    assert not (done and command in CASES[name].refused)


def test_the_run_itself_is_read_and_reproduced(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(stranger)
    for command in ("status", "report", "reproduce"):
        assert said([command, str(stranger)], monkeypatch, capsys)


def test_a_reproduction_does_not_follow_a_link(stranger: Path, outside: Path) -> None:
    from msvae.campaigns.reproduce import reproduce

    before = content(outside)
    (stranger.parent / "run-reproduced").symlink_to(outside)
    with pytest.raises(RunError, match="is a link"):
        reproduce(stranger, stranger.parent / "run-reproduced")
    assert content(outside) == before


def test_what_the_user_names_is_the_users(stranger: Path, outside: Path) -> None:
    from msvae.campaigns.reproduce import reproduce

    CASES["cache outside"].make(stranger, outside)
    own = outside.parent / "own"
    assert reproduce(stranger, outside.parent / "again", overrides=[f"cache.path={own}"]) is not None
    assert own.is_dir()


def test_files_of_older_versions_are_read(stranger: Path) -> None:
    """Without the digests that they do not have."""
    with h5py.File(stranger / "structures.h5", "a") as file:
        del file.attrs["sha256"]
    weights, metadata = load_tensors(stranger / "model.safetensors")
    (stranger / "model.safetensors").write_bytes(save(weights, {"msvae": json.dumps(metadata)}))
    assert read(stranger)
    (stranger / "model.safetensors").write_bytes(
        save({**weights, "more": weights["decoder.0.bias"].clone()}, {"msvae": "{}"})
    )
    with pytest.raises(RunError, match="another model"):
        _ = Run.open(stranger).model


def test_a_label_is_not_taken_for_a_number_of_phases(tmp_path: Path) -> None:
    image = np.zeros((8, 8), dtype=np.int64)
    image[0, 0] = 1 << 28
    np.save(tmp_path / "i.npy", image)
    with guard(), pytest.raises(DataError, match="one of 256 phases at most, found 268435457"):
        structures_of_file(tmp_path / "i.npy", {"spacing": 1e-6})
