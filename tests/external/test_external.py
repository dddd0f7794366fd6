"""Any program as a solver: what it is given, what is read of it, and what becomes of one that fails."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Quantity, Run, Structures, StudyError, TargetError
from msvae.campaigns.launch import launch

Make = Callable[..., Any]
Voxels = Callable[..., Structures]
LINES = """
name = "external"
command = ["{python}", "-I", "mean.py", "image.raw"]
inputs = [
    {{ file = "image.raw", format = "raw" }},
    {{ file = "mean.py", text = '''
import sys
print("mean =", sum(open(sys.argv[1], "rb").read()) / {{{{ voxels }}}})
''' }},
]
outputs = [{{ name = "mean", unit = "1", pattern = 'mean = (\\S+)' }}]
"""


def test_ten_lines_of_toml_are_a_solver(voxels: Voxels, tmp_path: Path) -> None:
    lines = LINES.format(python=sys.executable).strip().splitlines()
    assert len(lines) <= 11  # of which one is [solver]'s name
    study = "\n".join(['campaign = "label"', '[dataset]\nname = "simulated"', "[solver]", *lines])
    solver = msvae.Study.parse(study).need_solver()
    structures = voxels(3)
    np.testing.assert_allclose(solver.evaluate(structures)["mean"], structures.fractions[:, 1], rtol=1e-12)


def test_every_name_is_there(external: Make, voxels: Voxels) -> None:
    names = [
        *("id", "kind", "dimensions", "shape[1]", "spacing[2]", "lengths[0]", "volume", "voxels", "constituents[1]"),
        *("fractions[0]", "values[0][1][2][3]", "labels[1][2][3]", "flat[23]", "latents[1]", "properties['../../x']"),
        *("porosity", "stiffness[1][0]", "E", "case", "processes"),
    ]
    text = "\n".join(f"{{{{ {name} }}}}" for name in names)
    values = {"latents": [[0.5, 0.25]], "../../x": [7.0], "porosity": [0.125], "stiffness": [[[1.0, 2.0], [3.0, 4.0]]]}
    quantities = [Quantity(name, "1", np.shape(value)[1:]) for name, value in values.items()]
    structure = voxels().with_properties(values, quantities)
    solver = external(inputs=[{"file": "in.txt", "text": text}], variables={"E": 2.5}, keep="always")
    assert solver.evaluate(structure).failures == {}
    found = (solver.folder_of(structure) / "in.txt").read_text().splitlines()
    corner = str(structure.labels[0, 1, 2, 3])
    assert found[:4] == [structure.ids[0], "phases", "3", "3"]
    assert [float(x) for x in found[4:8]] == pytest.approx([3e-6, 2e-6, 2e-6 * 6e-6 * 12e-6, 24])
    assert found[8:14] == ["phase 1", str(float(structure.fractions[0, 0])), corner, corner, corner, "0.25"]
    assert found[14:] == ["7.0", "0.125", "3.0", "2.5", "", "1"]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('no licence'); sys.exit(3)", "' ended with exit code 3; it wrote: no licence"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import time; print('step 1', flush=True); time.sleep(60)", "timeout = 2 s and was ended; it wrote: step 1"),
        ("print('all is well')", "'share' is not in the program's output: nothing matches"),
        ("print('share = nan')", "'share' in the program's output is not a finite number"),
        ("print('share = 0.5.5')", "'0.5.5' is not a number"),
        ("print('share = 1')\nprint('*ERROR in e_c3d')", "it wrote what solver.errors names: *ERROR in e_c3d"),
        ("print('x' * 100000 + 'end'); raise SystemExit(1)", "end"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_a_labelled_failure(external: Make, voxels: Voxels, program: str, says: str) -> None:
    found = external(program, timeout=2.0, errors=[r"^\*ERROR"]).evaluate(voxels())
    assert says in found.failures[0]
    assert len(found.failures[0]) < 2000
    assert np.isnan(found["share"]).all()


def test_a_missing_and_a_garbled_file_are_failures(external: Make, voxels: Voxels) -> None:
    for program, key, says in (
        ("", {"pointer": "/a"}, "'out' is missing: the program ended without writing it"),
        ("open('out', 'w').write('{')", {"pointer": "/a"}, "it is not JSON"),
        ("open('out', 'w').write('{}')", {"pointer": "/a/b"}, "pointer '/a/b' leads to nothing"),
        ("open('out', 'wb').write(bytes(range(256)))", {"dataset": "a/b"}, "HDF5 has no numbers at 'a/b'"),
        ("open('out', 'wb').write(bytes(range(256)))", {"table": "stresses"}, "there is no table 'stresses'"),
        ("open('out', 'wb').write(bytes(range(256)))", {"column": ["a"]}, "there is no column 'a'"),
        ("open('out', 'w').write('a,b\\n1\\n')", {"column": ["b"]}, "a row is shorter"),
        ("open('out', 'w').write('<VTKFile')", {"field": "s"}, "it is not a mesh"),
    ):
        found = external(program, outputs=[{"name": "a", "file": "out", **key}]).evaluate(voxels())
        assert says in found.failures[0], found.failures[0]


def test_nothing_that_a_program_started_is_left(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    """Its child leaves its group and its session, and goes on."""
    program = (
        "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork():\n        os._exit(0)\n"
        "    open(sys.argv[1], 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
        "while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read(): time.sleep(0.01)\n"
        "print('share = 1')\nif len(sys.argv) > 2: time.sleep(600)"
    )
    for k, more in enumerate(((), ("hang",))):
        mark = tmp_path / f"mark{k}"
        external(program, str(mark), *more, timeout=3.0).evaluate(voxels())
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


def test_a_program_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    code = (
        "import msvae, sys\n"
        f"command = [sys.executable, '-c', {program!r}, {str(mark)!r}]\n"
        "solver = msvae.load_solver('external', command=command,"
        f" outputs=[{{'name': 'a', 'pattern': '(a)'}}], scratch={str(tmp_path)!r})\n"
        "solver.evaluate(msvae.Structures.from_labels([[[0, 1]]]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as process:
        while not mark.exists() or not mark.read_text():
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    while True:  # it is ended at once, though not before this line
        try:
            os.kill(int(mark.read_text()), 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)


ISOLATED = """
campaign = "label"
[dataset]
name = "simulated"
count = 1
shape = [4, 4]
[solver]
name = "external"
command = ["sh", "-c", "echo $$ >> {mark}; sleep 600 & wait"]
outputs = [{{ name = "a", pattern = "(a)" }}]
scratch = "{scratch}"
[executor]
isolation = "process"
timeout = 2.0
retries = {{ timeout = 0 }}
max_failures = 3
"""


def test_a_program_ends_with_its_isolated_solver(tmp_path: Path) -> None:
    study, mark = tmp_path / "study.toml", tmp_path / "mark"
    study.write_text(ISOLATED.format(mark=mark, scratch=tmp_path / "scratch"))
    with pytest.raises(TargetError, match=r"took longer than the 2 s of executor\.timeout"):
        launch(study, tmp_path / "run")
    assert mark.exists()
    while any(Path(f"/proc/{process}").exists() for process in mark.read_text().split()):
        time.sleep(0.05)


CASES = """
import json, sys
i, strain = int(sys.argv[1]), float(sys.argv[2])
json.dump({"stress": [strain * (10 * i + j) for j in range(3)]}, open("o.json", "w"))
if i == 1 and len(sys.argv) > 3: sys.exit("it diverged")
"""


def test_load_cases_are_joined_by_a_formula(external: Make, voxels: Voxels) -> None:
    more: dict[str, Any] = {
        "variables": {"strain": 1e-3},
        "cases": [{"name": f"c{i}", "variables": {"i": i}} for i in range(3)],
        "readings": [{"name": "stress", "file": "o.json", "pointer": "/stress", "factor": 1e6}],
        "outputs": [
            {"name": "a", "shape": [3, 3], "unit": "Pa", "formula": "stress.T / strain"},
            {"name": "b", "formula": "trace(a) / 3 + mean(i) + 0 * volume"},
        ],
    }
    found = external(CASES, "{{ i }}", "{{ strain }}", **more).evaluate(voxels())
    np.testing.assert_allclose(found["a"][0], 1e6 * np.array([[0, 10, 20], [1, 11, 21], [2, 12, 22]]), rtol=1e-12)
    np.testing.assert_allclose(found["b"], [11e6 + 1], rtol=1e-12)
    failed = external(CASES, "{{ i }}", "{{ strain }}", "stop", **more).evaluate(voxels())
    assert "ended with exit code 1; it wrote: it diverged; its folder is kept: " in failed.failures[0]


def test_folders_are_kept_as_asked_and_read_again(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    structures, scratch = voxels(2), tmp_path / "scratch"
    bad, good = "import sys; sys.exit(1)", "print('share = 0.5'); print('other = 4')"
    external(good).evaluate(structures)
    external(bad, keep="never").evaluate(structures)
    assert [p for p in scratch.rglob("*") if p.is_file()] == []
    failed = external(bad).evaluate(structures).failures
    assert all(Path(why.rpartition(" ")[2]).is_dir() for why in failed.values())
    solver = external(good, keep="always")
    solver.evaluate(structures[0])
    other = [{"name": "other", "pattern": r"other = (\S+)"}]
    again = external(good, keep="always", solve="never", outputs=other).evaluate(structures)
    assert (again["other"][0], again.failures[1].split(" in ")[0]) == (4.0, "no finished folder of it is kept")
    wrong = [{"name": "other", "pattern": r"absent = (\S+)"}]
    assert 0 in external(good, outputs=wrong).evaluate(structures[1]).failures
    assert external(good, solve="never", outputs=other).evaluate(structures[1])["other"].tolist() == [4.0]


def test_only_missing_folders_are_solved(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    program, count = "import sys; open(sys.argv[1], 'a').write('x'); print('share = 1')", tmp_path / "count"
    solver = external(program, str(count), keep="always", solve="missing")
    solver.evaluate(voxels(2))
    solver.evaluate(voxels(3))
    assert count.read_text() == "xxx"


def test_files_are_linked_and_copied_beside_the_input(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("0.25")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text("2")
    program = (
        "import os; a = open('own/a.txt').read(); open('own/a.txt', 'w').write('9');"
        " print('share =', float(open('table.txt').read()) * float(a) * os.path.islink('table.txt'))"
    )
    solver = external(program, link=[str(tmp_path / "table.txt")], copy=[str(tmp_path / "own")])
    assert solver.evaluate(voxels(2))["share"].tolist() == [0.5, 0.5]
    absent = external(program, link=[str(tmp_path / "absent")])
    assert "absent' does not exist" in str(absent.misfit(voxels().specification))


def test_a_start_is_taken_from_the_nearest_solved_structure(external: Make, voxels: Voxels) -> None:
    labels = np.zeros((3, 2, 3, 4), int)
    labels[1], labels[2, 0] = 1, 1
    labels[2, 1, 0] = 1  # 16 of 24 voxels are those of structure 1
    program = (
        "import os, sys; old = open('field.txt').read() if os.path.exists('field.txt') else 'none'\n"
        "open('field.txt', 'w').write(sys.argv[1]); print('share =', 1); print('start', old, sys.argv[2])"
    )
    solver = external(program, "{{ id }}", "{{ nearest }}", keep="always", warm_start=["field.txt"])
    structures = Structures.from_labels(labels, 1e-6)
    solver.evaluate(structures)
    said = [(solver.folder_of(structures[k]) / "output.txt").read_text().split("start ")[1].split() for k in range(3)]
    first, second, _ = structures.ids
    assert said == [["none"], [first, first], [second, second]]


def test_one_launch_solves_a_batch(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    program = (
        "import sys; open(sys.argv[1], 'a').write('x')\n"
        "for m in sys.argv[2:]:\n"
        "    x = open(m + '/x.txt').read()\n"
        "    if x.startswith('0.375'): sys.exit('no')\n"
        "    open(m + '/y.txt', 'w').write(x)"
    )
    settings: dict[str, Any] = {
        "inputs": [{"file": "x.txt", "text": "{{ fractions[1] }}"}],
        "outputs": [{"name": "share", "file": "y.txt", "column": ["0"]}],
        "batch": 4,
    }
    structures = Structures.from_labels(np.eye(8, dtype=int).cumsum(1).reshape(8, 2, 2, 2), 1e-6)  # shares of k / 8
    count = tmp_path / "count"
    found = external(program, str(count), "{{ members }}", **settings).evaluate(structures)
    shares = structures.fractions[:, 1]
    lost = np.isclose(shares, 0.375)
    np.testing.assert_array_equal(found["share"][~lost], shares[~lost])
    assert list(found.failures) == np.flatnonzero(lost).tolist()
    assert len(count.read_text()) == 2 + 4  # two launches, and one of which each structure is tried by itself


BATCHES = """
campaign = "label"
[dataset]
name = "simulated"
count = 7
shape = [4, 4]
[solver]
name = "external"
batch = 3
command = ["{python}", "-I", "-c", {program!r}, "{count}", "{{{{ members }}}}"]
inputs = [{{ file = "x.txt", text = "{{{{ fractions[1] }}}}" }}]
outputs = [{{ name = "share", file = "y.txt", column = ["0"] }}]
scratch = "{scratch}"
"""


def test_a_campaign_launches_a_program_for_a_batch(tmp_path: Path) -> None:
    program = (
        "import sys; open(sys.argv[1], 'a').write(str(len(sys.argv) - 2)); "
        "[open(m + '/y.txt', 'w').write(open(m + '/x.txt').read()) for m in sys.argv[2:]]"
    )
    study, count = tmp_path / "study.toml", tmp_path / "count"
    names = {"python": sys.executable, "program": program, "count": count, "scratch": tmp_path / "scratch"}
    study.write_text(BATCHES.format(**names))
    launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    np.testing.assert_allclose(run.evaluations.properties["share"], run.structures.fractions[:, 1], rtol=1e-12)
    assert count.read_text() == "331"
    assert (run.evaluations["cost"] > 0).all()


LATENTS = """
campaign = "inverse-design"
seed = 3
[dataset]
name = "simulated"
count = 24
shape = [8, 8]
[solver]
name = "external"
command = ["{python}", "-I", "-c", "print('share = {{{{ fractions[1] }}}}', 'latents = {{{{ latents | length }}}}')"]
outputs = [
    {{ name = "share", pattern = 'share = (\\S+)' }},
    {{ name = "width", pattern = 'latents = (\\S+)' }},
]
scratch = "{scratch}"
[architecture]
name = "perceptron"
width = 8
[model]
latents = 3
features = 8
[training]
epochs = 2
[design]
searcher = "random"
budget = 3
control_budget = 2
targets = [{{ property = "share", value = 0.5, tolerance = 1e-6 }}]
"""


def test_a_program_is_given_the_latents_that_a_structure_was_decoded_from(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(LATENTS.format(python=sys.executable, scratch=tmp_path / "scratch"))
    launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    for stage in run.stages:
        expected = 3.0 if stage.startswith(("search", "control")) else 0.0
        assert set(run.store(stage).load().properties["width"].tolist()) == {expected}, stage
    assert any(stage.startswith("search") for stage in run.stages)


def test_the_environment_is_a_scripts_without_our_mpi(
    external: Make, voxels: Voxels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "HYDRA_LAUNCHER", "MPICH_OFI", "SLURM_STEP_ID", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    count, setup = tmp_path / "count", tmp_path / "setup.sh"
    setup.write_text(
        f"echo loading; echo x >> {count}; module() {{ export \"$1=$2\"; }}; module LICENCE 'of ours'; unset HOME\n"
    )
    program = "import os, json; json.dump(dict(os.environ), open('e.json', 'w')); print('share = 1')"
    solver = external(program, setup=str(setup), environment={"EXTRA": "a b"}, keep="always")
    structures = voxels(2)
    assert solver.evaluate(structures).failures == {}
    seen = json.loads((solver.folder_of(structures[0]) / "e.json").read_text())
    assert (seen["LICENCE"], seen["EXTRA"], seen["SLURM_JOB_ID"]) == ("of ours", "a b", "77")
    assert not [name for name in seen if name.startswith(("PMI", "OMPI", "HYDRA", "MPICH", "SLURM_STEP", "SLURM_PROC"))]
    assert "HOME" not in seen
    assert count.read_text().split() == ["x"]
    setup.write_text("echo no module >&2; false\n")
    assert "ended with exit code 1; it wrote: no module" in solver.evaluate(structures).failures[0]


def test_a_launcher_stands_before_the_command(external: Make, voxels: Voxels) -> None:
    solver = external(
        "import sys; print('share =', sys.argv[1])", "7", launcher=["nice", "-n", "{{ processes }}"], processes=3
    )
    assert solver.evaluate(voxels())["share"].tolist() == [7.0]
    steps = external("print(1)", steps=[[sys.executable, "-c", "print('share = 4')"]])
    assert steps.evaluate(voxels())["share"].tolist() == [4.0]


def test_a_template_may_be_a_file_a_case_have_its_own_command_and_codes_be_success(
    external: Make, voxels: Voxels, tmp_path: Path
) -> None:
    (tmp_path / "in.jinja").write_text("{% for n in shape %}{{ n * scale }} {% endfor %}")
    program = "import sys; print('share =', sum(map(float, open('in.txt').read().split()))); sys.exit(4)"
    other = [sys.executable, "-I", "-c", "print('share = -1')"]
    solver = external(
        program,
        inputs=[{"file": "in.txt", "template": str(tmp_path / "in.jinja")}],
        cases=[{"name": "a", "variables": {"scale": 1}}, {"name": "b", "variables": {"scale": 2}, "command": other}],
        outputs=[{"name": "share", "pattern": r"share = (\S+)", "shape": [2]}],
        success=[0, 4],
    )
    assert solver.evaluate(voxels())["share"].tolist() == [[9.0, -1.0]]
    before = solver.folders.root
    (tmp_path / "in.jinja").write_text("1")
    assert msvae.load_solver("external", **{**_settings(solver), "success": [0]}).folders.root != before


def _settings(solver: Any) -> dict[str, Any]:
    """Return the settings of a solver as a study has them."""
    text = msvae.Study.parse(
        'campaign = "label"\n[dataset]\nname = "simulated"\n[solver]\nname = "conductivity"\n'
        "phases = [{ conductivity = 1.0 }]\n"
    )
    tables = dict(dataclasses.replace(text, solver=solver).tables["solver"])
    tables.pop("name")
    return tables


def test_an_input_that_cannot_be_written_loses_one_structure(external: Make, voxels: Voxels, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    inputs = [{"file": "folder/a.raw", "format": "raw"}]
    solver = external(inputs=inputs, copy=[str(tmp_path / "folder")], cases=[], errors=[])
    found = solver.evaluate(voxels(2))
    assert sorted(found.failures) == [0, 1]
    assert all("its folder is kept: " in why for why in found.failures.values())


def test_a_program_that_is_not_there_is_said_before_anything_runs(external: Make, voxels: Voxels) -> None:
    solver = external(command=["no-such-program-here"])
    assert "there is no program 'no-such-program-here'" in str(solver.misfit(voxels().specification))
    assert "cannot be started" in solver.evaluate(voxels()).failures[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"outputs": [{"name": "a"}]}, "found by one of pattern, table, column"),
        ({"outputs": [{"name": "a", "pattern": "(a)", "field": "b"}]}, "found pattern and field"),
        ({"outputs": [{"name": "a", "pattern": "a"}]}, "a regular expression with a group"),
        ({"outputs": [{"name": "a", "pattern": "(a"}]}, "a regular expression with a group"),
        ({"outputs": [SHARE := {"name": "a", "pattern": "(a)"}, SHARE]}, "'a' stands for two things"),
        ({"inputs": [{"file": "a"}]}, "a text, a template or a structure in a format"),
        ({"inputs": [{"file": "a", "text": "{% for %}"}]}, "is no template"),
        ({"inputs": [{"file": "a.txt", "format": "tiff"}]}, "an ending of .tif or .tiff"),
        ({"variables": {"lengths": 1.0}}, "'lengths' stands for two things"),
        ({"warm_start": ["a"]}, 'set keep = "always"'),
        ({"batch": 2, "cases": [{"name": "a"}]}, "a batch has no load cases"),
        ({"inputs": [{"file": "a", "text": "1"}, {"file": "a", "text": "2"}]}, "have one name"),
    ],
)
def test_what_is_no_solver_is_one_sentence(external: Make, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError, match=says.replace("(", r"\(").replace(".", r"\.")):
        external(**settings)
