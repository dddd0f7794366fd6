"""Chains of jobs: what one labels another trains on, and a third one designs with; runs that are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msvae import DataError, Run, RunError, StudyError
from msvae.campaigns.launch import launch


def _of_run(path: Path, *more: Path) -> list[str]:
    names = ", ".join(f'"{other}"' for other in more)
    return [f'dataset={{name="run", path="{path}", more=[{names}]}}']


def test_three_jobs_give_what_one_gives(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study, labels, model = study_file("inverse-design"), tmp_path / "labels", tmp_path / "model"
    whole = launch(study, tmp_path / "whole")
    launch(study, labels, overrides=["campaign=label"])
    launch(study, model, overrides=["campaign=train", *_of_run(labels)])
    last = launch(study, tmp_path / "last", overrides=[*_of_run(labels), f"training.start_from={model}"])
    assert whole is not None
    assert last is not None
    assert [row[:-1] for row in last.rows] == [row[:-1] for row in whole.rows]
    one, three = (Run.open(tmp_path / name).store("search-0").load() for name in ("whole", "last"))
    np.testing.assert_array_equal(three.latents, one.latents)
    np.testing.assert_array_equal(three.properties["conductivity"], one.properties["conductivity"])
    assert Run.open(tmp_path / "last").stages == ["control-0", "phases", "search-0"]  # nothing is labelled again


def test_merged_runs_count_each_structure_once(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("label")
    launch(study, tmp_path / "first", overrides=["label.limit=10"])
    launch(study, tmp_path / "second")
    launch(study, tmp_path / "third", overrides=["seed=4", "dataset.count=6"])
    merged = _of_run(tmp_path / "first", tmp_path / "second", tmp_path / "third")
    launch(study, tmp_path / "merged", overrides=[*merged, "campaign=train"])
    run = Run.open(tmp_path / "merged")
    first, second, third = (Run.open(tmp_path / name).labelled for name in ("first", "second", "third"))
    assert run.structures.ids == (*first.ids, *third.ids)
    values = run.structures.properties["conductivity"]
    np.testing.assert_array_equal(values[:10], first.properties["conductivity"][:10])
    np.testing.assert_array_equal(values[10:24], second.properties["conductivity"][10:])
    np.testing.assert_array_equal(values[24:], third.properties["conductivity"])
    assert run.stages == []


def test_labels_of_another_solver_are_refused_or_left_behind(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study, labels = study_file("label"), tmp_path / "labels"
    other = "solver.phases=[{conductivity=1.0}, {conductivity=99.0}]"
    launch(study, labels)
    launch(study, tmp_path / "other", overrides=[other])
    train = [*_of_run(labels), "campaign=train", other]
    with pytest.raises(StudyError, match=r"its 'conductivity' was computed by another solver.*dataset.labels = false"):
        launch(study, tmp_path / "wrong", overrides=train)
    launch(study, tmp_path / "anew", overrides=[*train, "dataset.labels=false"])
    anew = Run.open(tmp_path / "anew").labelled.properties["conductivity"]
    np.testing.assert_array_equal(anew, Run.open(tmp_path / "other").labelled.properties["conductivity"])
    with pytest.raises(DataError, match=r"dataset.more: '.*other' was labelled by another solver"):
        launch(study, tmp_path / "merged", overrides=[*_of_run(labels, tmp_path / "other"), "campaign=train"])


def test_a_run_that_labels_has_no_model_and_says_how_to_get_one(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    launch(study_file("label"), tmp_path / "labels")
    run = Run.open(tmp_path / "labels")
    with pytest.raises(RunError, match='has no model: its campaign trains none: run a study with campaign = "train"'):
        _ = run.model
    with pytest.raises(RunError, match="has trained no model"):
        run.plot.losses()


def test_what_does_not_fit_is_said(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("train")
    launch(study, tmp_path / "small", overrides=["dataset.shape=[6, 6]"])
    launch(study, tmp_path / "large")
    with pytest.raises(DataError, match=r"dataset.more: '.*small' has structures of another kind, grid or spacing"):
        launch(study, tmp_path / "run", overrides=_of_run(tmp_path / "large", tmp_path / "small"))
    with pytest.raises(StudyError, match=r"training.start_from: the model of '.*small' has another composition"):
        launch(study, tmp_path / "run", force=True, overrides=[f"training.start_from={tmp_path / 'small'}"])
