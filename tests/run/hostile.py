"""Runs of strangers: a real one, in which one thing is changed, as somebody who means harm would do it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from msvae.files.evaluations import HEAD, MAGIC, evaluations_to_bytes
from msvae.files.structures import structures_to_bytes
from msvae.plugins.conformance import example_structures
from msvae.structures.evaluations import Evaluation, Evaluations

__all__ = ["CASES", "STUDY", "Hostile", "sealed"]

STUDY = """
campaign = "train"
title = "a study"
dataset = { name = "simulated", count = 8, shape = [6, 6], length = [3e-6, 3e-6] }
solver = { name = "conductivity", phases = [{ conductivity = 1.0 }, { conductivity = 10.0 }] }
architecture = { name = "perceptron", width = 16 }
model = { latents = 2, features = 8, heads = ["conductivity"] }
structure_head = { properties = ["conductivity"], epochs = 1 }
training = { epochs = 1, batch_size = 4 }
"""
Make = Callable[[Path, Path], object]  # of a copy of the run, and a folder outside of it that nobody may touch
ALL = ("open", "status", "report", "reproduce")
ESCAPE, MARKUP = "\x1b[31m\x1b]0;owned\x07\u202e", "[/z][red]"
FILES = ("status.json", "study.toml", "structures.h5", "model.safetensors", "model.toml", "training.json",
         "summary.json", "provenance.json", "structure_head.safetensors", "log.jsonl",
         "evaluations/label/00000000-00000000.h5")  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """What is changed in a run. refused: what may not succeed with it; the rest may, or say one sentence."""

    make: Make
    refused: tuple[str, ...] = ()


def replaced(run: Path, name: str) -> Path:
    """Return the path of a part of the run, which is not there any more."""
    path = run / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def link(name: str, to: str, run: Path, outside: Path) -> None:
    """Put a link in the place of a part. to: a file of the outside, or an absolute path."""
    path = run / name
    if path.is_dir():
        path.rename(outside.parent / "moved")
    replaced(run, name).symlink_to(outside / to)


def own_name(name: str, run: Path, outside: Path, *, hard: bool = False) -> None:
    """Put a link under the name that a file has while it is written."""
    path = run / f"{name}.{os.getpid()}"
    path.parent.mkdir(exist_ok=True)
    os.link(outside / "canary.json", path) if hard else path.symlink_to(outside / "canary.json")


def pipe(name: str, run: Path, outside: Path) -> None:
    os.mkfifo(replaced(run, name))


def folder(name: str, run: Path, outside: Path) -> None:
    replaced(run, name).mkdir()


def unix_socket(name: str, run: Path, outside: Path) -> None:
    os.mknod(replaced(run, name), stat.S_IFSOCK | 0o600)


def holes(name: str, run: Path, outside: Path) -> None:
    """Make a file of a terabyte that stores next to nothing, behind what it began with."""
    os.truncate(run / name, 1 << 40)


def text(name: str, content: str, run: Path, outside: Path) -> None:
    replaced(run, name).write_text(content)


def terms(*arguments: str | Path) -> None:
    """Give the training's curves more terms; the last arguments are those of every change."""
    *names, run, _ = arguments
    path = Path(run) / "training.json"
    history = json.loads(path.read_text())
    more = {f"{prefix}{name}": 1.0 for name in names for prefix in ("", "held back ")}
    path.write_text(json.dumps([{**row, **more} for row in history]))


def entry(name: str, changes: Mapping[str, object], run: Path, outside: Path) -> None:
    """Change keys of a file of JSON."""
    (run / name).write_text(json.dumps({**json.loads((run / name).read_text()), **changes}))


def study(old: str, new: str, run: Path, outside: Path, *, name: str = "study.toml") -> None:
    """Replace a pattern in the study; OUT in the new text stands for the outside."""
    path = run / name
    found, count = re.subn(old, lambda _: new.replace("OUT", str(outside)), path.read_text(), count=1, flags=re.M)
    assert count, old
    path.write_text(found)


def dataset(table: str, run: Path, outside: Path) -> None:
    """Replace the table of the data set."""
    study(r"^\[dataset\]\n([^\[\n].*\n)*", f"[dataset]\n{table}\n\n", run, outside)


def solver(lines: str, run: Path, outside: Path) -> None:
    """Let LAMMPS be the solver, which reads files in languages of its own."""
    study(r"^\[solver\]\n([^\[\n].*\n)*", f'[solver]\nname = "lammps-energy"\n{lines}\n', run, outside)


def flipped(name: str, where: float, run: Path, outside: Path) -> None:
    """Change one byte of a file. where: from 0, its begin, to 1, its end."""
    content = bytearray((run / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (run / name).write_bytes(content)


def structures(change: Callable[[h5py.File], object], run: Path, outside: Path) -> None:
    """Change something in the file of structures, as it can be done with HDF5."""
    with h5py.File(run / "structures.h5", "a") as file:
        change(file)


def sealed(content: bytes) -> bytes:
    """Return a file of evaluations with the SHA-256 that belongs to it, as a stranger can write one."""
    return (MAGIC + hashlib.sha256(content[HEAD:]).hexdigest().encode() + b"\n").ljust(HEAD, b"\0") + content[HEAD:]


def evaluations(change: Callable[[h5py.File], object], run: Path, outside: Path) -> None:
    """Change something in the evaluations, with the digest that belongs to it."""
    path = next((run / "evaluations" / "label").glob("*.h5"))
    with h5py.File(path, "a") as file:
        change(file)
    path.write_bytes(sealed(path.read_bytes()))


def rows(row: Evaluation, run: Path, outside: Path, *, stage: str = "label") -> None:
    """Add an evaluation."""
    path = run / "evaluations" / stage / "00000900-00000900.h5"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(evaluations_to_bytes(Evaluations.of([row])))


def header(head: bytes, run: Path, outside: Path) -> None:
    """Give the model's weights another header."""
    (run / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))


def other(name: str, run: Path, outside: Path) -> None:
    """Add structures of another kind than the run's."""
    (run / name).write_bytes(structures_to_bytes(example_structures("occupation", 3, 2)))


def outward(file: h5py.File, name: str) -> None:
    """Let a name of a file of HDF5 stand for what is in another one."""
    del file[name]
    file[name] = h5py.ExternalLink("/outside/secret.h5", "values")


def put(file: h5py.File, name: str, value: object) -> None:
    del file[name]
    file[name] = value


def _links() -> dict[str, Hostile]:
    at = {"figures/training.png": "canary.json", "figures": "", "report.html": "canary.json",
          "evaluations/label/00000900-00000900.h5": "secret.h5", "evaluations/label": "", "evaluations": "",
          "evaluations/new/deep/x.h5": "secret.h5", "status.json": "canary.json", "model.toml": "canary.json",
          "unfinished": "canary.json", "study.toml": "study.toml", "log.jsonl": "canary.json",
          "structures.h5": "secret.h5"}  # fmt: skip
    cases = {f"link {name}": Hostile(partial(link, name, to), ALL) for name, to in at.items()}
    cases["link to a device"] = Hostile(partial(link, "training.json", "/dev/zero"), ALL)
    cases["link in a circle"] = Hostile(partial(link, "training.json", "../run/training.json"), ALL)
    for name in (".report.html", "figures/.training.png"):
        cases[f"link under {name}.PID"] = Hostile(partial(own_name, name), ALL)
        cases[f"hard link under {name}.PID"] = Hostile(partial(own_name, name, hard=True), ("report",))
    cases["pipe under .report.html.PID"] = Hostile(lambda run, _: os.mkfifo(run / f".report.html.{os.getpid()}"), ALL)
    return cases


def _kinds() -> dict[str, Hostile]:
    cases: dict[str, Hostile] = {}
    for name in FILES:
        needed = name not in ("log.jsonl", "status.json")
        cases[f"pipe {name}"] = Hostile(partial(pipe, name), ALL)
        cases[f"socket {name}"] = Hostile(partial(unix_socket, name), ALL)
        cases[f"folder {name}"] = Hostile(partial(folder, name), ("report",) if needed else ())
        if name != "log.jsonl":
            cases[f"a terabyte of holes {name}"] = Hostile(partial(holes, name), ("open",) if "label" in name else ())
    for name in ("structures.h5", "model.safetensors", "structure_head.safetensors"):
        for where in (0.0, 0.3, 0.6, 0.97):
            must = ("report",) if name != "structures.h5" else ()  # a file of HDF5 has bytes that stand for nothing
            cases[f"one bit at {where} of {name}"] = Hostile(partial(flipped, name, where), must)
    return cases


def _texts() -> dict[str, Hostile]:
    cases: dict[str, Hostile] = {}
    for what, said in (("escapes", ESCAPE), ("markup", MARKUP), ("half a character", "\ud800")):
        cases[f"{what} in the status"] = Hostile(partial(entry, "status.json", {said: said, "state": said}))
        cases[f"{what} in the table"] = Hostile(partial(entry, "summary.json", {
            "title": said, "columns": [said], "rows": [[said]], "notes": [said]}))  # fmt: skip
        cases[f"{what} in a message"] = Hostile(partial(rows, Evaluation(3, f"{3:016x}", "failed", {}, message=said)))
        cases[f"{what} in a plugin file's name"] = Hostile(
            partial(study, "^plugin_files = .*$", f"plugin_files = [{json.dumps(said)}]\n"), ("report", "reproduce")
        )
        cases[f"{what} in the training's terms"] = Hostile(partial(terms, said))
    for what, said in (("escapes", ESCAPE), ("markup", MARKUP)):
        cases[f"{what} in a stage's name"] = Hostile(
            partial(rows, Evaluation(3, f"{3:016x}", "done", {"q": np.ones(1)}), stage=said.replace("/", ""))
        )
        cases[f"{what} in the title"] = Hostile(partial(study, "^title = .*$", f"title = {json.dumps(said)}"))
    cases["a script in the title"] = Hostile(partial(study, "^title = .*$", "title = \"<script>alert('1')</script>\""))
    cases["a formula"] = Hostile(partial(terms, "$\\frac{$"))
    cases["a long formula"] = Hostile(partial(terms, "$" + "{\\sqrt" * 5000 + "$"))
    return cases


def _plain_values() -> dict[str, Hostile]:
    values = {"a list": "[]", "a number": "1", "a text": '"x"', "nothing": "null", "empty": "", "deep": "[" * 100_000,
              "rows": '[{"a": {}}]', "digits": "9" * 100_000, "not a number": '{"state": NaN}',
              "tables": "{}"}  # fmt: skip
    names = ("status.json", "training.json", "summary.json", "provenance.json", "searches.json", "pareto.json",
             "interpretation.json", "dns.json", "field.json", "push_forward.json")  # fmt: skip
    cases = {f"{w} in {name}": Hostile(partial(text, name, value)) for name in names for w, value in values.items()}
    process = {"state": "running", "host": os.uname().nodename, "process": 10**30}
    cases["a process of no number"] = Hostile(partial(entry, "status.json", process))
    cases["twenty thousand terms"] = Hostile(partial(terms, *map(str, range(20_000))), ("report",))
    return cases


def _studies() -> dict[str, Hostile]:
    out, both = ("reproduce",), ("report", "reproduce")
    tables = {"hdf5": 'name = "hdf5"\npath = "OUT/secret.h5"', "tiff": 'name = "tiff"\npath = "OUT"',
              "upwards": 'name = "hdf5"\npath = "../outside/secret.h5"',
              "in two parts": 'name = "mechanical-mnist"\npath = "."\nimages = "../outside/secret.h5"'}  # fmt: skip
    cases = {f"data set outside, {what}": Hostile(partial(dataset, table), out) for what, table in tables.items()}
    cases |= {
        "cache outside": Hostile(partial(study, "^\\[cache\\]$|\\Z", '[cache]\npath = "OUT/cache"\n'), out),
        "mesh outside": Hostile(
            partial(study, "\\Z", '[part]\nshape = "file"\nfile = "../outside/canary.json"\n'), both[1:]
        ),
        "executor": Hostile(partial(study, '^name = "(local|auto|serial)"$', 'name = "evil:Engine"'), out),
        "potential outside": Hostile(partial(solver, 'pair_coeff = ["* * OUT/canary.json Fe Ni"]'), out),
        "potential that is a program": Hostile(partial(solver, 'pair_style = "mliap"\npotential = "run/x"'), both),
        "plugin": Hostile(partial(study, "^plugin_files = .*$", 'plugin_files = ["OUT/canary.py"]'), both),
        "a name of many parts": Hostile(partial(study, "\\A", "a." * 100_000 + "a = 1\n"), both),
        "a name of many words": Hostile(partial(study, "\\A", '"a b".' * 100_000 + "a = 1\n"), both),
        "a long word": Hostile(partial(study, "\\A", "x" * 1_000_000 + "\n"), both),
        "brackets": Hostile(partial(study, "\\A", "x = " + "[" * 100_000 + "\n"), both),
        "a line of spaces": Hostile(partial(study, "\\A", "[" + " " * 500_000 + "x\n"), both),
    }
    return cases


def _contents() -> dict[str, Hostile]:
    must, opened = ("report",), ("open", "report", "reproduce")
    return {
        "structures elsewhere": Hostile(partial(structures, lambda f: outward(f, "values")), must),
        "a changed property": Hostile(partial(structures, lambda f: f.attrs.update(spacing=[1.0, 1.0])), must),
        "changed structures": Hostile(partial(structures, lambda f: put(f, "values", ~f["values"][()])), must),
        "many phases": Hostile(partial(structures, lambda f: f.attrs.update(constituents=["x"] * 300)), must),
        "an absurd grid": Hostile(partial(structures, lambda f: f.attrs.update(shape=[1 << 40, 1 << 40])), must),
        "evaluations elsewhere": Hostile(partial(evaluations, lambda f: outward(f, "cost")), opened),
        "no column": Hostile(partial(evaluations, lambda f: f.pop("seed")), opened),
        "no such index": Hostile(partial(evaluations, lambda f: put(f, "index", f["index"][()] + 10**9)), must),
        "no such text": Hostile(partial(evaluations, lambda f: put(f, "status", f["status"][()] + 10**6)), opened),
        "other columns": Hostile(partial(rows, Evaluation(1, "x", "done", {"conductivity": np.ones(7)}))),
        "another property": Hostile(partial(rows, Evaluation(1, "x", "done", {"fraction": np.ones(7)}))),
        "generated of another kind": Hostile(partial(other, "generated.h5")),
        "a design of another kind": Hostile(partial(other, "best_design.h5")),
        "a part of another kind": Hostile(partial(other, "part.h5")),
        "a long header": Hostile(partial(header, b'{"__metadata__":' + b"[" * 100_000), must),
        "no metadata": Hostile(partial(header, b"{}"), must),
        "weights of nothing": Hostile(partial(header, json.dumps({"__metadata__": {"msvae": "{}"}, "x": {
            "dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}}).encode()), must),
        "a larger model": Hostile(partial(study, "    6,\n    6,\n", "4096, 4096", name="model.toml"), must),
        "a wider model": Hostile(partial(study, "^width = 16$", "width = 4096", name="model.toml"), must),
        "no model of ours": Hostile(partial(text, "model.toml", 'settings = 1\narchitecture = {name = "x"}'), must),
    }  # fmt: skip


CASES: dict[str, Hostile] = {**_links(), **_kinds(), **_texts(), **_plain_values(), **_studies(), **_contents()}
