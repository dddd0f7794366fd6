"""A notebook that explores a run: executed, and without an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from msvae import Run, RunError
from msvae.campaigns.launch import launch

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "explore.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a small run of inverse design."""
    folder = tmp_path_factory.mktemp("notebook")
    from tests.conftest import DESIGN, SMALL

    (folder / "study.toml").write_text(SMALL.format(campaign="inverse-design") + DESIGN)
    launch(folder / "study.toml", folder / "runs" / "demo", overrides=["design.guards=false"])
    return Run.open(folder / "runs" / "demo")


def test_the_notebook_runs_from_top_to_bottom(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(run.path.parents[1])}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
    texts = [output["data"]["text/plain"] for output in shown if "text/plain" in output.get("data", {})]
    assert "36 evaluations (36 done)" in texts[0]


def test_a_table_is_short_and_whole_in_pandas(run: Run) -> None:
    table = run.evaluations
    text = repr(table)
    assert len(text) < 1200
    assert len(text.splitlines()) <= 11
    assert "conductivity[0, 0] (W/m/K)" in text
    frame = table.to_pandas()
    assert list(frame.columns[:4]) == ["stage", "index", "structure", "status"]
    np.testing.assert_array_equal(frame["conductivity[1, 0]"], table.properties["conductivity"][:, 1, 0])
    np.testing.assert_array_equal(frame["latents[2]"], table.latents[:, 2])
    assert set(frame["stage"]) == {"label", "search-0", "control-0"}
    assert (frame["status"] == "done").all()


def test_plots_say_what_is_missing(run: Run, tmp_path: Path, study_file: Callable[..., Path]) -> None:
    run.plot.parity("conductivity").save(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 5000
    with pytest.raises(RunError, match=r"no head for 'stiffness' \(model.heads: conductivity\)"):
        run.plot.parity("stiffness")
    launch(study_file("label"), tmp_path / "labels")
    with pytest.raises(RunError, match="has trained no model"):
        Run.open(tmp_path / "labels").plot.losses()
