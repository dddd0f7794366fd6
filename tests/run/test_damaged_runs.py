"""Damaged runs: whatever a disk, a copy cut short or a mix-up leaves of a file, it is one sentence or no harm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import STUDY

from msvae import MsvaeError, Run
from msvae.campaigns.launch import launch
from msvae.report.page import write_report
from msvae.run.status import status_of

WAYS = ("flip", "flips", "cut", "emptied", "zeros", "longer", "another file", "gone")
FEW, MANY = 32, 1000


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run as it is."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "study.toml").write_text(STUDY)
    launch(folder / "study.toml", folder / "run")
    return folder / "run"


def damage(run: Path, rng: np.random.Generator) -> str:
    """Damage one file of a run, and return in words what was done."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.suffix != ".jsonl")
    path, way = files[rng.integers(len(files))], WAYS[rng.integers(len(WAYS))]
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    place = int(rng.integers(max(len(content), 1)))
    if way == "gone":
        path.unlink()
    elif way == "another file":
        path.write_bytes(files[rng.integers(len(files))].read_bytes())
    elif way in ("flip", "flips"):
        for where in rng.integers(len(content), size=1 if way == "flip" else 20):
            content[where] ^= 1 << rng.integers(8)
        path.write_bytes(content.tobytes())
    else:
        whole = content.tobytes()
        path.write_bytes({"cut": whole[:place], "emptied": b"", "zeros": whole[:place] + bytes(len(whole) - place),
                          "longer": whole + whole[place:]}[way])  # fmt: skip
    return f"{path.relative_to(run)}: {way} at {place}"


def everything(run: Path, *, drawn: bool) -> Iterator[str]:
    """Read everything that a run gives, and yield every sentence that is said instead."""

    def opened() -> None:
        whole = Run.open(run)
        for part in ("study", "evaluations", "structures", "labelled", "model"):
            getattr(whole, part)
        for path in run.glob("*.json"):
            whole.read_json(path.name)

    for read in (opened, lambda: status_of(run), *([lambda: write_report(run)] if drawn else [])):
        try:
            read()
        except MsvaeError as error:
            yield str(error)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_damaged_run_is_one_sentence_or_no_harm(real: Path, tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    noticed = 0
    for k in range(count):
        run = tmp_path / "run"
        shutil.copytree(real, run)
        what = damage(run, rng)
        try:
            sentences = list(everything(run, drawn=k % 8 == 0))
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert all(sentence and "\n" not in sentence for sentence in sentences), what
        noticed += bool(sentences)
        shutil.rmtree(run)
    assert noticed > count / 3
