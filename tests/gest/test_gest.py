"""Searchers of others by the gest-api, and ours for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msvae import Run, RunError, StudyError
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae_gest.generator import generator_of

pytest.importorskip("gest_api")

GENERATOR = """
import numpy as np
from gest_api.generator import Generator

class Around(Generator):
    '''Draws around the best point that it has been told; it asks numpy's shared random numbers.'''
    returns_id = True

    def __init__(self, vocs, step=0.1):
        self.step, self.best, self.count, self.told = step, None, 0, []
        super().__init__(vocs)
        self.bounds = np.array([v.domain for v in vocs.variables.values()])

    def _validate_vocs(self, vocs):
        if list(vocs.objectives) != ["distance"] or self.step <= 0:
            raise ValueError("one objective, and a positive step")

    def suggest(self, num_points=None):
        middle = self.bounds.mean(axis=1) if self.best is None else self.best[1]
        points = np.random.normal(middle, self.step * np.ptp(self.bounds, axis=1), (num_points, len(middle)))
        points = np.clip(points, *self.bounds.T)
        found = []
        for point in points.tolist():
            found.append({**{f"z{k}": z for k, z in enumerate(point)}, "_id": self.count})
            self.count += 1
        return found

    def ingest(self, results):
        for row in results:
            self.told.append(row.get("_id"))
            point = np.array([row[f"z{k}"] for k in range(len(self.bounds))])
            if self.best is None or row["distance"] < self.best[0]:
                self.best = row["distance"], point

    def finalize(self):
        pass

class Short(Around):
    def suggest(self, num_points=None):
        return super().suggest(num_points)[1:]
"""


@pytest.fixture
def study(study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "around_generators.py").write_text(GENERATOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    return study_file("inverse-design")


def searcher(name: str = "around_generators:Around", **more: object) -> list[str]:
    words = ", ".join([f'name="gest", generator="{name}"', *(f"{k}={v}" for k, v in more.items())])
    return [f"design.searcher={{{words}}}"]


def test_a_generator_searches_resumes_and_needs_trust(study: Path, tmp_path: Path) -> None:
    launch(study, tmp_path / "run", overrides=searcher())
    run = Run.open(tmp_path / "run")
    asked = run.store("search-0").load().latents
    assert len(np.unique(asked, axis=0)) == len(asked)
    launch(study, tmp_path / "again", overrides=searcher())
    np.testing.assert_array_equal(Run.open(tmp_path / "again").store("search-0").load().latents, asked)
    with pytest.raises(RunError, match="names a program as"):
        reproduce(tmp_path / "run", tmp_path / "stranger")


def test_mistakes_are_one_sentence(study: Path, tmp_path: Path) -> None:
    for own, why in [
        (searcher("absent_module:Any"), "No module named 'absent_module'"),
        (searcher(arguments="{step=-1.0}"), "a positive step"),
        (searcher("around_generators:Short"), "suggested 3 points, asked for were 4"),
    ]:
        with pytest.raises(Exception, match=why):
            launch(study, tmp_path / "wrong", overrides=own, force=True)
    with pytest.raises(StudyError, match="generator"):
        launch(study, tmp_path / "wrong", overrides=["design.searcher={name='gest', generator='no colon'}"], force=True)


def test_our_search_serves_another_loop(study: Path, tmp_path: Path) -> None:
    """Suggest, solve and ingest as another tool does, with a failure in each round."""
    launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    generator, vae, solver = generator_of(run, seed=1), run.model, run.study.need_solver()
    names = list(generator.vocs.variables)
    assert names == ["z0", "z1", "z2"]
    assert len(generator.suggest()) == 1
    for _ in range(4):
        points = generator.suggest(3)
        assert [set(point) for point in points] == [set(names)] * 3
        latents = np.array([[point[name] for name in names] for point in points])
        values = solver.evaluate(vae.decode(latents))["conductivity"][:, 0, 0]
        values[0] = np.nan  # a failure
        generator.ingest([{**point, "conductivity[0, 0]": v} for point, v in zip(points, values, strict=True)])
    generator.finalize()
    launch(study, tmp_path / "label", overrides=["campaign='label'"])
    with pytest.raises(RunError, match="has no targets"):
        generator_of(Run.open(tmp_path / "label"))
