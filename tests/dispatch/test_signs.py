"""Signs of life: who is silent, who takes too long, and what a job that has died was doing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msvae.dispatch import signs
from msvae.dispatch.signs import Errand, Roll, Sign, busy_with, current, left_in, sign_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that the roll reads, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(signs.time, "monotonic", lambda: now[0])
    return now


def write(folder: Path, name: str, sign: Sign) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(signs.asdict(sign)))


def test_who_is_silent_for_the_patience_is_lost_until_there_is_a_sign_again(tmp_path: Path, clock: list[float]) -> None:
    roll = Roll(tmp_path / "workers", patience=5.0)
    alive, frozen = Sign("a", 1, rank=1, errand=7), Sign("b", 2, rank=2, errand=8)
    for beat in range(4):
        write(roll.folder, "a-1", signs.replace(alive, beat=beat))
        write(roll.folder, "b-2", frozen)
        assert roll.look()
        clock[0] += 2.0
    assert roll.lost_with(8, begun=True) == frozen
    assert roll.lost_with(7, begun=True) is None
    assert (roll.lost_teams, roll.why) == (1, "rank 2 (process 2 on b) was silent for 5 s")
    write(roll.folder, "b-2", signs.replace(frozen, beat=1))
    assert roll.look()
    assert roll.lost_teams == 0
    assert not roll.look()  # it is not time to yet


def test_an_errand_that_nobody_begins_with_is_lost_where_it_was_sent(tmp_path: Path, clock: list[float]) -> None:
    for sends, expected in ((False, None), (True, "a worker that never began")):
        roll = Roll(tmp_path / "workers", patience=5.0, sends=sends)
        for _ in range(4):
            roll.look(force=True)
            found = roll.lost_with(3, begun=True)
            clock[0] += 2.0
        assert (found.who if found else None) == expected
        assert roll.lost_with(4, begun=False) is None


def test_ranks_that_solve_too_long_are_lost(tmp_path: Path, clock: list[float]) -> None:
    roll = Roll(tmp_path / "workers", timeout=3.0)
    for k in range(3):
        write(roll.folder, "a-1", Sign("a", 1, errand=1, structure="same", beat=k))
        write(roll.folder, "b-1", Sign("b", 1, errand=2, structure=f"other {k}", beat=k))
        roll.look(force=True)
        clock[0] += 2.0
    found = roll.lost_with(1, begun=True)
    assert found is not None
    assert (found.status, found.trouble) == ("timeout", "took longer than the 3 s of executor.timeout")
    assert roll.lost_with(2, begun=True) is None


def test_a_worker_says_what_it_does_and_what_a_dead_one_did_is_read(tmp_path: Path) -> None:
    errand = Errand(str(tmp_path / "workers"), 4, None)
    with busy_with(errand, rank=3):
        assert current() == errand
        with busy_with(errand, "0123", rank=3, team=2):
            sign_of(errand).say(trouble="ä" * 5000)
            (path,) = [p for p in (tmp_path / "workers").iterdir() if p.suffix != ".fault"]
            said = Sign(**json.loads(path.read_text()))
            assert (said.errand, said.structure, said.rank, said.team, said.process) == (4, "0123", 3, 2, os.getpid())
            assert left_in(tmp_path / "workers") == {"0123": ""}
    assert left_in(tmp_path / "workers") == {}


def test_no_room_for_signs_does_no_harm(tmp_path: Path) -> None:
    errand = Errand(str(tmp_path / "gone" / "workers"), 1, None)
    with busy_with(errand, "0123"):
        pass
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "garbage").write_bytes(b"\xff{")
    assert left_in(tmp_path) == {}
