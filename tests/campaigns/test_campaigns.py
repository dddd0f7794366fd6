"""Campaigns end to end on small studies; resumed ones repeat nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import MsvaeError, Run, Study, read_structures
from msvae.campaigns.design import run as inverse_design
from msvae.campaigns.launch import launch
from msvae.metrics.solver_errors import percent
from msvae.report.page import write_report
from msvae.sampling.search.aims import Target
from msvae.sampling.search.searchers.optimiser import GaussianProcessSearch
from msvae.sampling.search.searchers.random import RandomSearch
from tests.conftest import SMALL

GENERATE = """
[generate]
values = [3.0, 5.0]
samples = 3
[structure_head]
properties = ["conductivity"]
epochs = 2
flips = [0]
"""


def test_label_evaluates_every_structure_and_reports_the_spread(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    table = launch(study_file("label"), tmp_path / "run")
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.evaluations.properties["conductivity"]
    assert found.shape == (24, 2, 2)
    assert table.rows[0][:3] == ("conductivity[0, 0]", "W/m/K", f"{found[:, 0, 0].mean():.5g}")
    assert run.evaluations["structure"].tolist() == list(run.structures.ids)


def test_label_shows_every_component_of_small_properties_and_one_of_fields(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    phases = "[{youngs_modulus=1.0}, {youngs_modulus=2.0}]"
    overrides = [f"solver={{name='hyperelasticity', phases={phases}, displacements=[0.1, 0.2]}}", "dataset.count=2"]
    table = launch(study_file("label"), tmp_path / "run", overrides=[*overrides, "model.heads=[]"])
    assert table is not None
    names = [row[0] for row in table.rows]
    assert names == ["energy[0]", "energy[1]", "reaction[0, 0]", "reaction[0, 1]", "reaction[1, 0]", "reaction[1, 1]",
                     "displacement[1, 1, 7, 7]"]  # fmt: skip


def test_label_can_be_limited_and_train_uses_what_is_known(study_file: Callable[..., Path], tmp_path: Path) -> None:
    launch(study_file("train"), tmp_path / "run", overrides=["label.limit=10"])
    run = Run.open(tmp_path / "run")
    assert len(run.evaluations) == 10
    assert run.model.predict(np.zeros((1, 3)))["conductivity"].shape == (1, 2, 2)


def test_inverse_design_ends_with_a_verified_design(study_file: Callable[..., Path], tmp_path: Path) -> None:
    overrides = [
        "design.targets=[{property='conductivity', component=[0, 0], value=4.0, tolerance=0.05}]",
        "design.budget=24",
    ]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    searched = run.store("search-0").load()
    distances = np.abs(searched.properties["conductivity"][:, 0, 0] - 4.0) / 4.0
    row = next(r for r in table.rows if r[0] == "best designed structure")
    assert float(row[1]) == pytest.approx(searched.properties["conductivity"][distances.argmin(), 0, 0], rel=1e-4)
    met = np.flatnonzero(distances <= 0.05)
    assert row[3] == (str(met[0] + 1) if len(met) else "> 24")
    assert run.store("control-0").load().latents.shape == (4, 3)


FICKLE = """
from dataclasses import dataclass
from pathlib import Path
import msvae

@dataclass(frozen=True)
class Fickle(msvae.Solver):
    # fails after some calls
    name = "fickle"
    kinds = ("phases",)
    computes = (msvae.Quantity("conductivity", "W/m/K", ("d", "d")),)
    log: str = ""
    calls: int = 0

    def evaluate(self, structures):
        with open(self.log, "a") as file:
            file.write(".")
        if len(Path(self.log).read_text()) > self.calls:
            raise RuntimeError("out of licences")
        return {"conductivity": structures.fractions[:, 1][:, None, None] * [[1.0, 0.0], [0.0, 1.0]]}

@msvae.hook
def msvae_solvers():
    return [Fickle]
"""


@pytest.mark.parametrize(("calls", "ends"), [(26, "not met"), (24, "all 8 evaluations of 'search-0' failed")])
def test_a_search_outlives_failures_and_says_when_nothing_was_verified(
    study_file: Callable[..., Path], tmp_path: Path, calls: int, ends: str
) -> None:
    (tmp_path / "fickle.py").write_text(FICKLE)
    study = study_file("inverse-design")
    lines = study.read_text().replace('"conductivity"\nphases', f'"fickle"\nlog = "{tmp_path}/log"\ncalls = {calls}\n#')
    study.write_text('plugin_files = ["fickle.py"]\n' + lines)
    overrides = [
        "design.control_budget=0",
        "design.targets=[{property='conductivity', component=[0, 0], value=9.0}]",
        "design.guards=false",
    ]  # such conductivities are above Hashin and Shtrikman's
    if "not met" in ends:
        table = launch(study, tmp_path / "run", overrides=overrides)
        assert table is not None
        assert ends in table.notes[0]
        found = Run.open(tmp_path / "run").store("search-0").load()
        assert (found.done & ~found["cached"]).sum() == 2  # what is asked for again is not solved again
    else:
        with pytest.raises(MsvaeError, match=ends):
            launch(study, tmp_path / "run", overrides=overrides)


@pytest.mark.parametrize("searcher", ["gradient", "botorch"])
def test_other_searchers_are_named_by_the_study(study_file: Callable[..., Path], tmp_path: Path, searcher: str) -> None:
    """A step through the solver costs three calls here, so that a budget of twelve is spent by four designs."""
    if searcher == "botorch":
        pytest.importorskip("botorch")
    overrides = ["design.budget=12", f"design.searcher={searcher}", "design.control_budget=0", "model.heads=[]"]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    (course,) = run.read_json("searches.json")
    assert len(run.store("search-0").load()) <= 12 // course["price"]
    assert course["price"] == (3 if searcher == "gradient" else 1)
    write_report(run.path)


def test_a_model_is_trained_anew_on_what_was_found(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """A search in three parts, which a resumed run finds again; each design is decoded by the model that made it."""
    target = "design.targets=[{property='conductivity', component=[0, 0], value=9.5, tolerance=1e-4}]"
    overrides = [target, "design.budget=12", "design.retrainings=2", "design.control_budget=0", "design.repeats=2"]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    assert [s for s in run.stages if s.startswith("search")] == [
        f"search-{k}{part}" for k in (0, 1) for part in ("", "-1", "-2")
    ]
    assert sorted(p.name for p in run.path.glob("model-*.safetensors")) == [
        f"model-search-{k}-{n}.safetensors" for k in (0, 1) for n in (1, 2)
    ]
    courses = run.read_json("searches.json")
    assert [len(c["distances"]) for c in courses] == [12, 12]
    design = read_structures(run.path / "best_design.h5")
    again = run.study.need_solver().evaluate(design)["conductivity"]
    np.testing.assert_allclose(again, design.properties["conductivity"], rtol=1e-6)
    count = len(run.evaluations)
    resumed = launch(tmp_path / "study.toml", tmp_path / "run", overrides=overrides, resume=True)
    assert resumed is not None
    assert resumed.rows == table.rows
    assert len(Run.open(tmp_path / "run").evaluations) == count
    start = [target, "design.budget=4", "design.control_budget=0", f"design.start_from=['{tmp_path / 'run'}']"]
    launch(tmp_path / "study.toml", tmp_path / "next", overrides=start)
    earlier = read_structures(tmp_path / "next" / "earlier.h5")  # each decoded by the model of its part
    assert len(earlier) == 24
    solved = run.study.need_solver().evaluate(earlier)["conductivity"]
    np.testing.assert_allclose(solved, earlier.properties["conductivity"], rtol=1e-6)


def test_a_curve_is_reached_as_a_whole(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """The first row of the tensor stands for a curve of two numbers."""
    target = "design.targets=[{property='conductivity', component=[0], values=[4.0, 0.0], tolerance=0.05}]"
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=[target, "design.budget=24"])
    assert table is not None
    assert "the design is verified by the solver" in table.notes
    design = read_structures(tmp_path / "run" / "best_design.h5")
    np.testing.assert_allclose(design.properties["conductivity"][0, 0], [4.0, 0.0], atol=0.05 * 4)
    assert table.rows[0][1] == "4 ... 0 (2)"
    write_report(tmp_path / "run")


def test_a_search_starts_from_what_earlier_runs_found(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """The first run's designs are known, and one of them is what the second is asked for."""
    study = study_file("inverse-design")
    launch(study, tmp_path / "first", overrides=["design.budget=12"])
    first = Run.open(tmp_path / "first")
    found = first.store("search-0").load()
    value = found.properties["conductivity"][found.done][-1, 0, 0]
    target = f"design.targets=[{{property='conductivity', component=[0, 0], value={value}, tolerance=1e-6}}]"
    start = f"design.start_from=['{tmp_path / 'first'}']"
    table = launch(study, tmp_path / "second", overrides=[target, start, "design.control_budget=0"])
    assert table is not None
    assert table.rows[1][0].startswith("best known structure, number ")
    assert table.rows[1][1:4] == (f"{value:.5g}", "0.00 %", "0")
    assert "meets the target already, within 0.00 %" in table.notes[0]
    assert any("known structure" in note and "discretisation error is about" in note for note in table.notes)
    earlier = read_structures(tmp_path / "second" / "earlier.h5")
    assert len(earlier) == len(found) + len(first.store("control-0").load())
    for k, (override, says) in enumerate((("solver.phases=[{conductivity=1.0},{conductivity=9.0}]", "another solver"),
                                          ("dataset.shape=[8, 10]", "another kind, grid"))):  # fmt: skip
        with pytest.raises(MsvaeError, match=says):
            launch(study, tmp_path / f"refused{k}", overrides=[target, start, override])


def test_a_fast_solver_answers_plain_candidates_which_the_budget_does_not_count(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    """At .05 s a call six beside each of two questions; a run that goes on has the same, wall time included."""
    overrides = [
        "design.call_seconds=0.05",
        "design.guards=false",
        "design.targets=[{property='conductivity', component=[0, 0], value=400.0}]",
    ]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    assert len(run.store("search-0").load()) == 2 * (4 + 6)
    assert any("> 20" in row for row in table.rows)
    assert table.columns[-1] == inverse_design.WALL
    assert all(float(row[-1]) > 0 for row in table.rows[2:] if not row[0].startswith("its "))
    resumed = launch(tmp_path / "study.toml", tmp_path / "run", overrides=overrides, resume=True)
    assert resumed is not None
    assert resumed.rows == table.rows


def test_what_a_call_costs_is_measured_once_and_kept(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("inverse-design")
    study.write_text(study.read_text().replace("call_seconds = 1.0\n", ""))
    more = ["design.budget=4", "design.control_budget=0"]
    launch(study, tmp_path / "run", overrides=more)
    run = Run.open(tmp_path / "run")
    pace = run.read_json("pace.json")
    assert pace["call_seconds"] in [10.0**k for k in range(-6, 2)]
    run.write_json("pace.json", {"call_seconds": 0.1})  # whatever is measured, what is written counts
    for path in (run.path / "evaluations" / "search-0").glob("*"):
        path.unlink()
    launch(study, tmp_path / "run", overrides=more, resume=True)
    assert len(Run.open(tmp_path / "run").store("search-0").load()) == 4 + 3


CONDITIONAL = [
    "model.conditions=[{property='conductivity', component=[0, 0]}]",
    "dataset.count=300",
    "training.epochs=20",
]


@pytest.fixture(scope="module")
def conditional_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has trained a model of structures under their conductivity."""
    folder = tmp_path_factory.mktemp("conditional")
    (folder / "study.toml").write_text(SMALL.format(campaign="train"))
    launch(folder / "study.toml", folder / "run", overrides=CONDITIONAL)
    return folder / "run"


@pytest.mark.parametrize("searcher", ["conditional", "composite"])
def test_designs_are_asked_of_a_conditional_model(
    study_file: Callable[..., Path], tmp_path: Path, conditional_model: Path, searcher: str
) -> None:
    """Samples under the target come nearer than those under a far one, and a search starts from them."""
    near, far = [], []
    for value, found in ((4.0, near), (8.0, far)):
        target = f"design.targets=[{{property='conductivity', component=[0, 0], value={value}, tolerance=1e-4}}]"
        more = [target, f"design.searcher={searcher}", "design.budget=16", "design.control_budget=0"]
        more += [*CONDITIONAL, f"training.start_from={conditional_model}"]
        launch(study_file("inverse-design"), tmp_path / f"run{value:g}", overrides=more)
        table = Run.open(tmp_path / f"run{value:g}").store("search-0").load()
        found += table.properties["conductivity"][table.done, 0, 0].tolist()
    assert np.median(far) > np.median(near) + 1
    assert abs(np.median(near) - 4) < 1.5


OWN_SEARCHER = """
from dataclasses import dataclass
import numpy as np
import msvae

@dataclass(frozen=True)
class Nearby(msvae.Searcher):
    "Moves from the structures that are nearest. step: of a move. leaders: that moves start from."
    name = "nearby"
    step: float = 0.3
    leaders: int = 4

    def search(self, problem):
        return Walk(self, problem)

class Walk:
    price = 1

    def __init__(self, settings, problem):
        self.settings, self.rng = settings, np.random.default_rng(problem.seed)
        self.latents, self.distances = problem.known.latents, problem.distance(problem.known.properties)

    def ask(self, n):
        best = self.latents[np.argsort(np.nan_to_num(self.distances, nan=np.inf))[: self.settings.leaders]]
        return np.resize(best, (n, best.shape[1])) + self.settings.step * self.rng.standard_normal((n, best.shape[1]))

    def tell(self, latents, distances, properties):
        self.latents = np.concatenate([self.latents, latents])
        self.distances = np.concatenate([self.distances, distances])

@msvae.hook
def msvae_searchers():
    return [Nearby]
"""


def test_a_search_strategy_is_a_file_with_settings_of_its_own(study_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "nearby.py").write_text(OWN_SEARCHER)
    study = study_file("inverse-design")
    study.write_text('plugin_files = ["nearby.py"]\n' + study.read_text())
    launch(study, tmp_path / "run", overrides=['design.searcher={name="nearby", step=0.1}'])
    run = Run.open(tmp_path / "run", trust=True)
    assert run.study.tables["design"]["searcher"] == {"name": "nearby", "step": 0.1}
    near = run.store("search-0").load()
    launch(study, tmp_path / "again", overrides=['design.searcher={name="nearby", step=0.1}'])
    np.testing.assert_array_equal(
        Run.open(tmp_path / "again", trust=True).store("search-0").load().latents, near.latents
    )
    for wrong, said in {
        '{name="nearby", setp=0.1}': r"design.searcher.setp: unknown key - did you mean 'step'\?",
        "nearbye": r"no searcher is called 'nearbye' - did you mean 'nearby'\?",
    }.items():
        with pytest.raises(MsvaeError, match=said):
            launch(study, tmp_path / "wrong", overrides=[f"design.searcher={wrong}"])


def test_a_design_is_interpreted(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """Sensitivities are the solver's; of a two-phase conductor every voxel has one, and it is not negative."""
    more = ["design.interpret=true", "design.budget=8", "design.control_budget=0"]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=more)
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.read_json("interpretation.json")
    assert np.shape(found["sensitivities"]) == (3, 1)
    assert np.shape(found["traversal"]) == (1, 2, 5)
    design = read_structures(run.path / "best_design.h5")
    np.testing.assert_allclose(np.array(found["traversal"])[0, :, 2], design.properties["conductivity"][0, 0, 0])
    attribution = read_structures(run.path / "attribution.h5")
    assert (attribution.values >= 0).all()
    assert any("half of its sensitivity" in note for note in table.notes)
    write_report(run.path)
    assert (run.path / "figures" / "interpretation.png").exists()


def test_a_front_of_two_objectives_is_verified_and_dominates_more_than_random_samples(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    objectives = "[{property='conductivity', component=[0, 0], goal='maximum'}, " \
                 "{property='conductivity', component=[1, 1], goal='minimum'}]"  # fmt: skip
    overrides = ["design.targets=[]", f"design.objectives={objectives}", "design.budget=24", "design.control_budget=24",
                 "dataset.count=60", "training.epochs=10", "model.latents=8"]  # fmt: skip
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.read_json("pareto.json")
    assert found["areas"]["search"] > found["areas"]["random samples of the prior"]
    values = run.store("search-0").load().properties["conductivity"]
    shown = np.array([[float(cell) for cell in row[1:3]] for row in table.rows])
    errors = run.store("search-0").load().errors["conductivity"][found["front"]][:, [0, 1], [0, 1]]
    assert table.columns[-1] == "their discretisation errors"
    for row, own, value in zip(table.rows, errors, shown, strict=True):
        assert row[-1] == " / ".join(percent(ratio) for ratio in own / value)
    np.testing.assert_allclose(shown, values[found["front"]][:, [0, 1], [0, 1]], rtol=1e-4)
    assert (np.diff(shown[:, 0]) <= 0).all()
    assert (np.diff(shown[:, 1]) <= 0).all()
    write_report(tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "pareto_front.png").exists()
    count = len(run.evaluations)
    launch(tmp_path / "study.toml", tmp_path / "run", overrides=overrides, resume=True)
    assert len(Run.open(tmp_path / "run").evaluations) == count


@pytest.mark.parametrize("latents", [1, 128])
def test_any_number_of_latents_can_be_searched_and_the_seed_decides(
    study_file: Callable[..., Path], tmp_path: Path, latents: int
) -> None:
    study, overrides = study_file("inverse-design"), [f"model.latents={latents}", "design.control_budget=0"]
    found = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        launch(study, tmp_path / name, overrides=[*overrides, f"seed={seed}"])
        found.append(Run.open(tmp_path / name).store("search-0").load().latents)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].shape[1] == latents
    assert not np.array_equal(found[0], found[2])


def test_a_range_and_a_phase_fraction_are_kept_to(study_file: Callable[..., Path], tmp_path: Path) -> None:
    overrides = ["design.targets=[{property='conductivity', component=[0, 0], low=3.0, high=4.0}]", "design.budget=24",
                 "design.fractions=[{phase=1, high=0.55}]", "design.refine=true", "dataset.count=60",
                 "training.epochs=10"]  # fmt: skip
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    design = read_structures(tmp_path / "run" / "best_design.h5")
    assert design.fractions[0, 1] <= 0.55
    assert 2.99 <= design.properties["conductivity"][0, 0, 0] <= 4.01
    assert table.rows[0][1] == "3 to 4"
    assert any("twice the voxels" in note for note in table.notes)
    assert set(Run.open(tmp_path / "run").read_json("searches.json")[0]["guards"][0]) == {
        "typicality", "re-encoding", "novelty", "bounds", "spread of the head"}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("value=400.0", "400"),
        ("high=0.5", "at most 0.5"),
        ("low=12.0", "at least 12"),
        ("low=12.0, high=20.0", "12 to 20"),
    ],
)
def test_a_target_that_no_structure_can_have_is_refused_before_anything_is_labelled(
    study_file: Callable[..., Path], tmp_path: Path, target: str, found: str
) -> None:
    overrides = [f"design.targets=[{{property='conductivity', component=[0, 0], {target}}}]"]
    with pytest.raises(MsvaeError, match=rf"targets\[0\]: {found} W/m/K is asked of .*is outside of 1 to 10") as error:
        launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert error.value.code == 2
    assert not (tmp_path / "run").exists()


def test_an_entry_off_the_diagonal_has_bounds_too(study_file: Callable[..., Path], tmp_path: Path) -> None:
    asked = "design.targets=[{{property='conductivity', component=[0, 1], value={}}}]"
    study = study_file("inverse-design")
    with pytest.raises(MsvaeError, match=r"7 W/m/K is asked of conductivity\[0, 1\].*outside of -4.5 to 4.5"):
        launch(study, tmp_path / "run", overrides=[asked.format(7)])
    with pytest.raises(MsvaeError, match=r"is 0 in each of the 24 labelled structures: it does not depend on"):
        launch(study, tmp_path / "run", overrides=[asked.format(1), "solver.boundary=mirrored"])


def test_a_forgotten_material_is_said_before_a_target_is_judged(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(MsvaeError, match=r"24 of 24 structures have phase 1, but materials are given up to phase 0"):
        launch(study_file("inverse-design"), tmp_path / "run", overrides=["solver.phases=[{conductivity=1.0}]"])


FAILS_LATER = """
from dataclasses import dataclass
import msvae

CALLS = []

@dataclass(frozen=True)
class FailsLater(msvae.Solver):
    "Answers so many times, and then never again."
    name = "fails-later"
    kinds = ("phases",)
    computes = (msvae.Quantity("conductivity", "W/m/K", ("d", "d")),)
    calls: int = 0

    def evaluate(self, structures):
        CALLS.append(len(structures))
        if len(CALLS) > self.calls:
            raise ValueError(f"licence {len(CALLS)} is gone")
        solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 10.0}])
        return dict(solver.evaluate(structures))

@msvae.hook
def msvae_solvers():
    return [FailsLater]
"""


@pytest.mark.parametrize(("calls", "stage"), [(25, "label"), (60, "search-0")])
def test_what_fails_later_on_ends_the_stage_too(
    study_file: Callable[..., Path], tmp_path: Path, calls: int, stage: str
) -> None:
    """With the reason in which they differ by a number alone counted as one."""
    (tmp_path / "later.py").write_text(FAILS_LATER.replace('"fails-later"', f'"fails-after-{calls}"'))
    study = study_file("inverse-design")
    lines = study.read_text().replace('"conductivity"\nphases', f'"fails-after-{calls}"\ncalls = {calls}\n#')
    study.write_text('plugin_files = ["later.py"]\n' + lines)
    more = ["dataset.count=60", "design.budget=40", "design.guards=false", "design.searcher=random"]
    with pytest.raises(MsvaeError, match=rf"(\d+) of the first \d+ evaluations of stage '{stage}' failed, \1 of them"):
        launch(study, tmp_path / "run", overrides=more)


@pytest.mark.parametrize("count", [24, 200])
def test_a_stage_most_of_which_fails_ends_with_the_most_frequent_reason(
    study_file: Callable[..., Path], tmp_path: Path, count: int
) -> None:
    (tmp_path / "fickle.py").write_text(FICKLE)
    study = study_file("train")
    lines = study.read_text().replace('"conductivity"\nphases', f'"fickle"\nlog = "{tmp_path}/log"\ncalls = 3\n#')
    study.write_text('plugin_files = ["fickle.py"]\n' + lines)
    with pytest.raises(MsvaeError, match=r"of the first \d+ evaluations of stage 'label' failed, \d+ of them so: "):
        launch(study, tmp_path / "run", overrides=[f"dataset.count={count}"])
    assert len(Run.open(tmp_path / "run").evaluations) < 60
    (tmp_path / "log").unlink()  # the solver counts its calls there
    table = launch(study, tmp_path / "all", overrides=["executor.max_failures=1000", "campaign=label"])
    assert table is not None


def test_a_target_out_of_reach_is_reported_as_not_met(study_file: Callable[..., Path], tmp_path: Path) -> None:
    overrides = ["design.targets=[{property='conductivity', component=[0, 0], value=400.0}]", "design.guards=false"]
    table = launch(study_file("inverse-design"), tmp_path / "run", overrides=overrides)
    assert table is not None
    assert "not met" in table.notes[0]
    assert any("> 8" in row for row in table.rows)


def test_a_search_that_is_resumed_asks_the_same_and_repeats_nothing(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    study = study_file("inverse-design")
    launch(study, tmp_path / "whole")
    launch(study, tmp_path / "cut")
    whole, cut = (Run.open(tmp_path / name) for name in ("whole", "cut"))
    segments = sorted((cut.path / "evaluations" / "search-0").iterdir())
    for path in segments[3:]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in segments[:3]}
    launch(study, tmp_path / "cut", resume=True)
    np.testing.assert_array_equal(cut.store("search-0").load().latents, whole.store("search-0").load().latents)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    rows = [[row[:-1] for row in run.read_json("summary.json")["rows"]] for run in (cut, whole)]
    assert rows[0] == rows[1]  # but for the last column, wall time


def test_a_finished_run_is_resumed_without_any_work(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("train")
    first = launch(study, tmp_path / "run")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run" / "evaluations").rglob("*.h5"))
    assert launch(study, tmp_path / "run", resume=True) == first
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run" / "evaluations").rglob("*.h5")) == before


def test_generate_asks_for_values_and_scores_what_it_got(study_file: Callable[..., Path], tmp_path: Path) -> None:
    overrides = [
        "model.conditions=[{property='conductivity', component=[0, 0]}]",
        "architecture={name='convolutional',size='tiny'}",
    ]
    table = launch(study_file("generate", GENERATE), tmp_path / "run", overrides=overrides)
    assert table is not None
    assert [row[0] for row in table.rows] == ["3", "5"]
    page = write_report(tmp_path / "run").read_text()
    for word in ("asked", "Provenance", "data:image/png", "simulated"):
        assert word in page
    names = {p.stem for p in (tmp_path / "run" / "figures").iterdir()}
    assert {
        "properties",
        "training",
        "reconstructions",
        "latent_map",
        "parity",
        "generated",
        "targets_and_results",
    } <= names


def test_the_report_of_a_design_has_its_figures_in_2d_and_3d(study_file: Callable[..., Path], tmp_path: Path) -> None:
    for k, shape in enumerate(("[8, 8]", "[6, 6, 6]")):
        launch(
            study_file("inverse-design"), tmp_path / f"run{k}", overrides=[f"dataset.shape={shape}", "design.budget=4"]
        )
        write_report(tmp_path / f"run{k}")
        names = {p.stem for p in (tmp_path / f"run{k}" / "figures").iterdir()}
        assert {"target_and_found", "best_design", "latent_map"} <= names


@pytest.mark.parametrize(
    ("campaign", "overrides", "says"),
    [
        ("train", ["model.heads=['energy']"], "no property 'energy'"),
        ("inverse-design", ["model.heads=[]"], "model.heads has to name"),
        ("inverse-design", ["design.searcher=conditional"], "needs model.conditions"),
        (
            "inverse-design",
            ["model.conditions=[{property='conductivity', component=[1, 1]}]"],
            "has to be among design.targets",
        ),
        ("inverse-design", ["design.targets=[{property='conductivity', value=1.0}]"], "component"),
        ("label", ["solver.phases=[{conductivity=1.0}]"], "phase 1"),
        ("label", ["solver.phases=[{conductivity=0.0}, {conductivity=0.0}]"], "of the first 2"),
        ("train", ["architecture.name=convolutional", "architecture.width=3"], "unknown key"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_one_sentence(
    study_file: Callable[..., Path], tmp_path: Path, campaign: str, overrides: list[str], says: str
) -> None:
    with pytest.raises(MsvaeError, match=says) as caught:
        launch(study_file(campaign), tmp_path / "run", overrides=overrides)
    assert "\n" not in str(caught.value)


def test_distance_is_the_worst_target_in_tolerances() -> None:
    targets = (Target("p", 10.0, tolerance=0.1), Target("q", 0.0, component=(1,), tolerance=0.5))
    properties = {"p": np.array([11.0, 10.0, np.nan]), "q": np.array([[9.0, 0.25], [9.0, 1.0], [0.0, 0.0]])}
    found = inverse_design.distance_from(targets, properties)
    np.testing.assert_allclose(found, [1.0, 2.0, np.nan])


def test_random_search_is_decided_by_its_seed(study_file: Callable[..., Path], tmp_path: Path) -> None:
    launch(study_file("train"), tmp_path / "run")
    vae = Run.open(tmp_path / "run").model
    first, again, other = (RandomSearch(vae, seed) for seed in (1, 1, 2))
    asked = first.ask(4)
    np.testing.assert_array_equal(asked, again.ask(4))
    assert not np.array_equal(asked, other.ask(4))
    assert not np.array_equal(asked, first.ask(4))


def test_the_search_survives_failed_evaluations_and_any_batch(study_file: Callable[..., Path], tmp_path: Path) -> None:
    launch(study_file("train"), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    encoded = run.model.encode(run.structures)

    def distance(properties: dict[str, Any]) -> Any:
        return (properties["conductivity"][:, 0, 0] - 4.0).abs()

    search = GaussianProcessSearch(run.model, distance, encoded=encoded, known=np.linspace(1, 2, 24), seed=0)
    for n in (1, 2, 5):
        asked = search.ask(n)
        assert asked.shape == (n, 3)
        assert np.isfinite(asked).all()
        search.tell(asked, np.full(n, np.nan), {"conductivity": np.full((n, 2, 2), np.nan)})
    asked = search.ask(4)
    search.tell(asked, np.array([0.5, np.nan, 0.2, 0.1]), {"conductivity": np.ones((4, 2, 2))})
    assert np.isfinite(search.ask(4)).all()


def test_the_studies_of_the_examples_are_valid() -> None:
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*/study.toml")):
        assert Study.load(path).campaign
