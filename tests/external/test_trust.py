"""Strangers: names, templates, ids and studies that would have something executed, or written elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import msvae
from msvae import Quantity, Run, RunError, Specification, Structures, StudyError
from msvae.archive.packing import pack
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae.campaigns.reread import reread
from msvae.cli.app import app
from msvae.serve.models import models_of

Make = Callable[..., Any]
Voxels = Callable[..., Structures]
STUDY = """
campaign = "label"
[dataset]
name = "simulated"
count = 2
shape = [4, 4]
[solver]
name = "external"
command = ["{python}", "-I", "-c", "open({mark!r}, 'w'); print('a = 1'); print('b = 2')"]
outputs = [{{ name = "a", pattern = 'a = (\\S+)' }}]
scratch = "{scratch}"
keep = "always"
"""


@pytest.mark.parametrize(
    "template",
    [
        "{{ self.__init__ }}", "{{ id.__class__.__mro__ }}", "{{ ''.__class__ }}", "{{ range.__globals__ }}",
        "{{ cycler }}", "{{ lipsum.__globals__ }}", "{{ '{0.__class__}'.format(id) }}", "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}", "{{ values.append(1) }}", "{{ namespace.__init__.__globals__ }}",
        "{{ id | attr('__class__') }}", "{{ missing }}", "{{ shape[9] }}", "{{ 1 / 0 }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}", "{{ lookup() }}",
    ],
)  # fmt: skip
def test_a_template_reaches_nothing_but_its_names(external: Make, voxels: Voxels, template: str) -> None:
    for settings in ({"inputs": [{"file": "a", "text": template}]}, {"launcher": ["echo", template]}):
        found = external(**settings).evaluate(voxels())
        assert template[:20] in found.failures[0] or found.failures[0].startswith("input 'a': ")


def test_a_strangers_template_computes_nothing_when_its_study_is_read(external: Make) -> None:
    external(inputs=[{"file": "a", "text": "{{ 'a' * 10 ** 12 }}{{ 9 ** 9 ** 9 }}"}])
    with pytest.raises(StudyError, match="is no template"):
        external(inputs=[{"file": "a", "text": "{{ " + "(" * 5000 + ")" * 5000 + " }}"}])


def test_a_property_of_any_name_writes_no_file(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    for name in ("../../x", "/etc/x", "a;touch x", "a\nb", "{{ 7 * 7 }}", "__class__"):
        structure = voxels().with_properties({name: [7.0]}, [Quantity(name)])
        solver = external("import sys; print('share =', sys.argv[1])", "{{ properties | length }}")
        assert solver.evaluate(structure)["share"].tolist() == [1.0]
        with pytest.raises(StudyError, match="outputs\\[0\\]\\.name"):
            external(outputs=[{"name": name, "pattern": "(a)"}])
        with pytest.raises(StudyError, match="names of letters, digits and _"):
            external(variables={name: 1.0})
        with pytest.raises(StudyError):
            external(cases=[{"name": name}])
    assert {p.name for p in tmp_path.rglob("*")} == {"scratch"} | {p.name for p in (tmp_path / "scratch").rglob("*")}


def test_a_name_that_data_bring_ends_no_line(external: Make, voxels: Voxels) -> None:
    """A phase of a stranger's data set is called as a command of the program's input would be."""
    for name in ("a\nshell touch x", "a; touch x", "`touch x`", "$(touch x)", "-rf", 'a"b'):
        structure = voxels()
        specification = Specification("phases", 1, structure.specification.grid, ("matrix", name))
        solver = external(inputs=[{"file": "a", "text": "{{ constituents[1] }}"}])
        found = solver.evaluate(Structures(structure.values, specification))
        assert "input 'a': " not in found.failures[0]
        assert "constituent 1 is " in found.failures[0]


def test_arguments_are_never_a_shells(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = "import sys; print('share =', len(sys.argv)); print(sys.argv)"
    words = ["; touch x", f"$(touch {mark})", "`id`", "a b", "*", "", "{{ id }}", "\n; touch x"]
    solver = external(program, *words, keep="always")
    assert solver.evaluate(voxels())["share"].tolist() == [1.0 + len(words)]
    assert not mark.exists()


def test_a_strangers_study_runs_its_command_only_with_trust(tmp_path: Path) -> None:
    mark, study = tmp_path / "mark", tmp_path / "study.toml"
    study.write_text(STUDY.format(python=sys.executable, mark=str(mark), scratch=tmp_path / "scratch"))
    launch(study, tmp_path / "run")
    mark.unlink()
    for overrides, key in (((), "command"), (("solver.command=['true']",), "outputs")):
        with pytest.raises(RunError, match=rf"names a program as solver\.{key}.*add --trust"):
            reproduce(tmp_path / "run", tmp_path / "again", overrides=overrides)
    assert Run.open(tmp_path / "run").study.need_solver().name == "external"
    with pytest.raises(RunError, match="add --trust"):
        reread(tmp_path / "run", tmp_path / "again")
    with pytest.raises(RunError, match="add --trust"):
        models_of(tmp_path / "run")
    assert not mark.exists()
    reproduce(tmp_path / "run", tmp_path / "again", trust=True)
    assert mark.exists()


def test_a_strangers_archive_runs_nothing_without_trust(tmp_path: Path) -> None:
    """What an archive says of its own inputs is no word of the user's."""
    mark, study = tmp_path / "mark", tmp_path / "study.toml"
    study.write_text(STUDY.format(python=sys.executable, mark=str(mark), scratch=tmp_path / "scratch"))
    launch(study, tmp_path / "run")
    mark.unlink()
    pack(tmp_path / "run", tmp_path / "run.zip", trust=True)
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith("inputs/")]
    done = CliRunner().invoke(app, ["reproduce", str(tmp_path / "run.zip")])
    assert isinstance(done.exception, RunError)
    assert "names a program as solver.command" in str(done.exception)
    with pytest.raises(RunError, match="add --trust"):
        reproduce(tmp_path / "run", tmp_path / "again", inputs=["solver.command='x'", "solver.outputs='y'"])
    assert not mark.exists()
    shutil.rmtree(tmp_path / "run-unpacked")
    done = CliRunner().invoke(app, ["reproduce", str(tmp_path / "run.zip"), "--trust", "--output", str(tmp_path / "a")])
    assert done.exception is None, done.exception
    assert mark.exists()


def test_finished_folders_are_read_again_with_other_outputs(tmp_path: Path) -> None:
    mark, study = tmp_path / "mark", tmp_path / "study.toml"
    text = STUDY.format(python=sys.executable, mark=str(mark), scratch=tmp_path / "scratch")
    study.write_text(text)
    launch(study, tmp_path / "run")
    mark.unlink()
    study.write_text(text.replace('name = "a", pattern = \'a', 'name = "b", factor = 10, pattern = \'b'))
    assert reread(tmp_path / "run", tmp_path / "again", study=study) is not None
    assert not mark.exists()
    table = Run.open(tmp_path / "again").evaluations
    assert table.properties["b"].tolist() == [20.0, 20.0]
    assert table["structure"].tolist() == Run.open(tmp_path / "run").evaluations["structure"].tolist()
    with pytest.raises(RunError, match="is the run itself"):
        reread(tmp_path / "run", tmp_path / "run", trust=True)
    other = tmp_path / "other.toml"
    other.write_text(text.split("[solver]")[0] + '[solver]\nname = "conductivity"\nphases = [{ conductivity = 1.0 }]\n')
    with pytest.raises(StudyError, match="runs no program"):
        reread(tmp_path / "run", tmp_path / "again2", study=other)


def test_solve_shows_the_folder_or_writes_the_input_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, study, image = tmp_path / "mark", tmp_path / "study.toml", tmp_path / "image.npy"
    text = STUDY.format(python=sys.executable, mark=str(mark), scratch=tmp_path / "scratch").replace("always", "never")
    study.write_text(text + 'inputs = [{ file = "in.txt", text = "{{ fractions[1] }}" }]\n')
    np.save(image, np.array([[0, 1], [1, 1]]))
    common = ["solve", "external", str(image), "--study", str(study), "--set", "dataset.spacing=1e-6", "--json"]
    found = json.loads(CliRunner().invoke(app, [*common, "--dry-run"]).stdout)[0]
    assert (found["status"], Path(found["folder"], "in.txt").read_text(), mark.exists()) == ("written", "0.75", False)
    found = json.loads(CliRunner().invoke(app, [*common, "--keep"]).stdout)[0]
    assert (found["properties"]["a"]["value"], Path(found["folder"], "output.txt").read_text()) == (
        1.0,
        "a = 1\nb = 2\n",
    )
    plain = ["solve", "conductivity", str(image), "--set", "phases=[{conductivity=1.0},{conductivity=2.0}]"]
    done = CliRunner().invoke(app, [*plain, "--set", "dataset.spacing=1e-6", "--dry-run"])
    assert isinstance(done.exception, msvae.StudyError)
    assert "runs no program that is given an input" in str(done.exception)
