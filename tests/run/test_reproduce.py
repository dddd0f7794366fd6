"""Reproduction, status, and the structures that a run keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, RunError
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae.run.journal import Journal
from msvae.run.status import status_of
from msvae.structures.evaluations import Evaluation, Evaluations


def test_a_run_is_reproduced_and_a_changed_one_is_not(study_file: Callable[..., Path], tmp_path: Path) -> None:
    launch(study_file("inverse-design"), tmp_path / "run")
    table = reproduce(tmp_path / "run", tmp_path / "again")
    assert table is not None
    assert {row[2] for row in table.rows} == {"identical"}
    assert {row[0] for row in table.rows} == {"label", "phases", "search-0", "control-0", ""}
    with pytest.raises(RunError, match="is the run itself"):
        reproduce(tmp_path / "run", tmp_path / "run")
    store = Run.open(tmp_path / "run").store("label")
    old = next(iter(store.load().where(np.array([3]))))
    forged = Evaluation(3, old.structure, "done", {"conductivity": 1.01 * old.properties["conductivity"]})
    store.append(Evaluations.of([forged]))
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    provenance["packages"]["numpy"] = "0.1"
    (tmp_path / "run" / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(RunError, match=r"conductivity of stage 'label': largest relative difference.*numpy 0\.1 there"):
        reproduce(tmp_path / "run", tmp_path / "third")


def test_the_status_says_how_far_a_run_is_and_when_its_process_is_gone(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    launch(study_file("label"), tmp_path / "run")
    state = status_of(tmp_path / "run")
    assert (state["state"], state["done"], state["failed"], state["evaluations"]) == ("done", 24, 0, 24)
    path = tmp_path / "run" / "status.json"
    path.write_text(json.dumps({**state, "state": "running"}))
    assert status_of(tmp_path / "run")["state"] == "running"
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    path.write_text(json.dumps({**state, "state": "running", "process": gone}))
    assert status_of(tmp_path / "run")["state"] == "lost"
    for text in ("{", "[]", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(RunError, match="damaged"):
            status_of(tmp_path / "run")
    with pytest.raises(RunError, match=r"no status\.json"):
        status_of(tmp_path)


def test_the_status_says_what_is_going_on_at_every_stage(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    show = Journal.show

    def recorded(journal: Journal, **state: Any) -> None:
        show(journal, **state)
        seen.append(status_of(tmp_path / "run"))

    monkeypatch.setattr(Journal, "show", recorded)
    monkeypatch.setattr("msvae.run.journal.EVERY", 0.0)
    launch(study_file("inverse-design"), tmp_path / "run", overrides=["design.guards=false"])
    stages = list(dict.fromkeys(state["stage"] for state in seen if "stage" in state))
    assert stages[:5] == ["reading the data set", "label", "train", "fitting the prior", "search-0"]
    training = [state for state in seen if state.get("stage") == "train"]
    assert [state["steps_done"] for state in training if "steps" in state] == [1, 2, 3]
    assert training[2]["seconds_left"] >= 0
    assert not any("evaluations" in state for state in training)
    searching = [state for state in seen if state.get("stage") == "search-0" and "steps" in state]
    assert {state["steps"] for state in searching} == {8}
    assert "nearest design at" in searching[0]["doing"]
    assert seen[-1]["state"] == "done"


def test_decoded_structures_are_kept_on_request_and_are_those_that_were_solved(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    launch(study_file("inverse-design"), tmp_path / "run", overrides=["store.structures=true"])
    run = Run.open(tmp_path / "run")
    kept, table = run.decoded_structures("search-0"), run.store("search-0").load()
    assert list(kept.ids) == table["structure"].tolist()
    found = run.study.need_solver().evaluate(kept)["conductivity"]
    np.testing.assert_array_equal(found[table.done], table.properties["conductivity"][table.done])
    with pytest.raises(RunError, match=r"store\.structures = true"):
        run.decoded_structures("label")


def test_every_row_says_which_solver_and_study_it_is_from(study_file: Callable[..., Path], tmp_path: Path) -> None:
    launch(study_file("label"), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    table = run.store("label").load()
    assert set(table["study"]) == {run.study.digest}
    assert all(text.startswith("conductivity ") for text in table["solver"])
    assert (table["cost"] > 0).all()


def test_a_strangers_executor_is_not_executed_without_trust(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(study_file("label"), tmp_path / "run")
    study = tmp_path / "run" / "study.toml"
    study.write_text(study.read_text().replace('name = "auto"', 'name = "engine_of_theirs:open"'))
    assert "engine_of_theirs" in study.read_text()
    (tmp_path / "engine_of_theirs.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RunError, match=r"'engine_of_theirs:open', which would be executed: add --trust"):
        reproduce(tmp_path / "run", tmp_path / "again")
    assert not (tmp_path / "executed").exists()
    table = reproduce(tmp_path / "run", tmp_path / "again", overrides=["executor.name='serial'"])
    assert table is not None
    assert {row[2] for row in table.rows} == {"identical"}
