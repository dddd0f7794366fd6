"""The store: what was acknowledged is there, whole, whatever happens."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msvae import Quantity, RunError
from msvae.run import store as store_module
from msvae.run.store import EvaluationStore
from msvae.structures.evaluations import Evaluation, Evaluations, joined


def evaluation(index: int, status: str = "done") -> Evaluation:
    value = np.full((2, 2), float(index)) if status == "done" else np.full((2, 2), np.nan)
    message = "" if status == "done" else "it said: nö"
    return Evaluation(index, f"{index:016x}", status, {"k": value}, message, np.array([index, 0.5]), seed=2**62 + index)  # type: ignore[arg-type]


def store(path: Path) -> EvaluationStore:
    return EvaluationStore(path / "label", [Quantity("k", "W/m/K", (2, 2))])


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    s = store(tmp_path)
    s.append(Evaluations.of([evaluation(3), evaluation(1, "failed")]))
    s.append(Evaluations.of([evaluation(2)]))
    s.append(Evaluations.of([]))
    table = EvaluationStore(tmp_path / "label").load()
    assert table["index"].tolist() == [1, 2, 3]
    assert table["message"].tolist() == ["it said: nö", "", ""]
    assert table["seed"].tolist() == [2**62 + k for k in (1, 2, 3)]
    assert table.done.tolist() == [False, True, True]
    np.testing.assert_array_equal(table.where(table.done).properties["k"][:, 0, 0], [2.0, 3.0])
    assert table.units == {"k": "W/m/K"}
    assert len(store(tmp_path / "nothing").load()) == 0


def test_many_segments_are_merged_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BASE", 4)
    s = store(tmp_path)
    for k in range(23):
        s.append(Evaluations.of([evaluation(k)]))
    assert len(list(s.directory.iterdir())) == 1 + 1 + 3  # 16 + 4 + 3
    assert s.load()["index"].tolist() == list(range(23))
    assert s.load().units == {"k": "W/m/K"}


def test_a_death_between_writing_and_clearing_a_merge_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = store(tmp_path)
    monkeypatch.setattr(store_module, "BASE", 3)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok: (_ for _ in ()).throw(KeyboardInterrupt))
    s.append(Evaluations.of([evaluation(0)]))
    s.append(Evaluations.of([evaluation(1)]))
    with pytest.raises(KeyboardInterrupt):
        s.append(Evaluations.of([evaluation(2)]))
    monkeypatch.undo()
    assert len(s.files) == 1
    assert len(list(s.directory.iterdir())) == 4
    assert s.load()["index"].tolist() == [0, 1, 2]
    again = store(tmp_path)
    again.append(Evaluations.of([evaluation(3)]))
    assert again.load()["index"].tolist() == [0, 1, 2, 3]


def test_half_a_file_under_another_name_is_not_read(tmp_path: Path) -> None:
    s = store(tmp_path)
    s.append(Evaluations.of([evaluation(0)]))
    (s.directory / ".00000001-00000001.h5.123").write_bytes(b"half")
    assert len(s.load()) == 1


@given(cut=st.integers(0, 4000), flip=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_corrupted_segment_gives_a_clean_error_or_the_truth(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("corrupt")
    s = store(folder)
    s.append(Evaluations.of([evaluation(0)]))
    path = next(s.directory.iterdir())
    content = bytearray(path.read_bytes())
    content[cut % len(content)] ^= flip
    path.write_bytes(content[: len(content) - cut % 97])
    with contextlib.suppress(RunError):  # any other exception is a fault
        assert len(s.load()) <= 1


def test_a_full_disk_is_one_sentence_and_keeps_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = store(tmp_path)
    s.append(Evaluations.of([evaluation(0)]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"No space left.*--resume"):
        s.append(Evaluations.of([evaluation(1)]))
    monkeypatch.undo()
    assert s.load()["index"].tolist() == [0]
    assert len(list(s.directory.iterdir())) == 1


def test_tables_of_unequal_latents_join(tmp_path: Path) -> None:
    first, second = store(tmp_path / "a"), store(tmp_path / "b")
    first.append(Evaluations.of([evaluation(0)]))
    second.append(Evaluations.of([Evaluation(1, "x", "done", {"j": np.array(2.0)})]))
    table = joined([first.load(), second.load()])
    assert table.latents.shape == (2, 2)
    assert np.isnan(table.latents[1]).all()
    assert np.isnan(table.properties["j"][0])
