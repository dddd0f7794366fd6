"""Any executable as a solver: input files from templates, an argument list, and outputs that the study declares."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from msvae import Array, Count, PluginError, Properties, Quantity, Seconds, Solver, Specification, Structures
from msvae_external import templates, writers
from msvae_external.batches import launched_together
from msvae_external.failures import Failure, Status
from msvae_external.job import Job, properties_in
from msvae_external.names import KNOWN
from msvae_external.running.environment import environment_of
from msvae_external.running.folders import FINISHED, VALUES, Folders, Keep
from msvae_external.running.launch import resolved
from msvae_external.settings import OUTPUT, Arguments, Case, Input, Inside, Message, Output, Reading, Values, Words

__all__ = ["External"]

OWN = ("case", "folder", "here", "members", "nearest", "processes")  # names that templates find besides the structure's
LAUNCH = ("command", "steps", "launcher", "processes", "environment", "setup", "inputs", "variables", "cases", "link",
          "copy", "warm_start", "batch")  # fmt: skip


@dataclass(frozen=True)
class External(Solver):
    """Properties that any program computes: its input files are written, it runs, and its output is read.

    Templates (Jinja2) and arguments find: id, kind, dimensions, shape, spacing, lengths, volume, voxels, constituents,
    fractions, values (channels, *grid), labels (*grid), flat, latents, properties (by name), and every property,
    variable and variable of the load case by its own name; case, folder, here (where msvae was started), processes,
    nearest.

    command: the program and its arguments, each a template; no shell sees them. steps: commands that follow it.
    inputs: files that are written into the program's folder. outputs: properties. readings: numbers that formulas of
        outputs use.
    variables: further names. cases: load cases; the program runs for each in a folder of its own.
    launcher: arguments before the command, such as ["mpiexec", "-n", "{{ processes }}"]. processes: its ranks. The
        program does not see that it was started from an MPI job.
    environment: variables. setup: script that bash sources once, which may load modules; its environment is kept.
    link, copy: files and folders that are linked or copied beside the input.
    timeout: of one command. success: exit codes that are none of a failure. errors: regular expressions of messages
        that mean a failure.
    keep: the folders of failures (20 at most of each process), all, or none. scratch: folder that they are in; $NAMES
        of the environment are replaced. By default that of the system's temporary files.
    solve: whether the program runs "always", for structures whose finished folder is "missing", or "never": then
        finished folders are read again.
    warm_start: files of the nearest finished structure that are copied beside the input; keep is "always" then.
    batch: structures of one launch, which find a folder each, in the arguments as "{{ members }}".
    """

    name = "external"
    dimensions = (0, 1, 2, 3)
    executes = (
        "command",
        "steps",
        "launcher",
        "environment",
        "setup",
        "inputs",
        "outputs",
        "readings",
        "cases",
        "link",
        "copy",
    )
    computes: ClassVar[tuple[Quantity, ...]] = (Quantity("outputs"),)  # a study says which

    command: Annotated[Arguments, Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    inputs: tuple[Input, ...] = ()
    readings: tuple[Reading, ...] = ()
    steps: tuple[Annotated[Arguments, Field(min_length=1)], ...] = ()
    variables: Values = field(default_factory=dict)
    cases: tuple[Case, ...] = ()
    launcher: Arguments = ()
    processes: Count = 1
    environment: Mapping[str, Words] = field(default_factory=dict)
    setup: Path | None = None
    link: tuple[Path, ...] = ()
    copy: tuple[Path, ...] = ()
    timeout: Seconds = 3600.0
    success: tuple[int, ...] = (0,)
    errors: tuple[Message, ...] = ()
    keep: Keep = "failure"
    scratch: Path | None = None
    solve: Literal["always", "missing", "never"] = "always"
    warm_start: tuple[Inside, ...] = ()
    batch: Count = 1

    def __post_init__(self) -> None:
        _check_names(self)
        _check_templates(self)
        if self.warm_start and self.keep != "always":
            raise ValueError('warm_start takes files of folders that are kept: set keep = "always"')
        if self.batch > 1 and self.cases:
            raise ValueError("a batch has no load cases: set batch = 1, or leave out cases")
        object.__setattr__(self, "computes", tuple(output.quantity for output in self.outputs))

    @classmethod
    def example(cls) -> External:
        program = "import sys; print('share =', sum(map(float, sys.argv[1:])) / 2)"
        command = (sys.executable, "-I", "-S", "-c", program, "{{ fractions[0] }}", "1")
        return cls(command, (Output("share", pattern=r"share = (\S+)"),))

    @cached_property
    def folders(self) -> Folders:
        """The folders that its program works in."""
        return Folders(self.scratch, _key(self), self.keep)

    def misfit(self, specification: Specification) -> str | None:
        reason = super().misfit(specification)
        reasons = (writers.misfit(specification, given) for given in self.inputs)
        return reason or next((found for found in reasons if found), None) or self._missing()

    def _missing(self) -> str | None:
        """Return which program or file is not there, None if all are."""
        files = [*self.link, *self.copy, *(given.template for given in self.inputs if given.template is not None)]
        absent = next((file for file in files if not file.exists()), None)
        if absent is not None:
            return f"solver '{self.name}': '{absent}' does not exist: give a path from where msvae is started"
        program = [*self.launcher, *self.command][0]
        if self.solve == "never" or "{" in program:
            return None
        try:
            environment = environment_of(self.setup, self.environment)
        except Failure as error:
            return str(error)
        if shutil.which(resolved(program, environment), path=environment.get("PATH")) is None:
            return f"solver.command: there is no program '{program}': install it, give its path, or a setup script"
        return None

    @property
    def together(self) -> int:
        return self.batch

    def evaluate(self, structures: Structures) -> Properties:
        quantities = self.quantities(structures.specification)
        arrays = {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities}
        failures: dict[int, str] = {}
        statuses: dict[int, Status] = {}
        jobs = [Job(self, structures[k]) for k in range(len(structures))]
        answers = {k: answer for k, job in enumerate(jobs) if (answer := self._known(job)) is not None}
        left = [k for k in range(len(jobs)) if k not in answers]
        for first in range(0, len(left), self.batch):
            group = left[first : first + self.batch]
            answers.update(zip(group, self._solved([jobs[k] for k in group]), strict=True))
        for k, answer in answers.items():
            if isinstance(answer, Failure):
                failures[k], statuses[k] = str(answer), answer.status
                continue
            for name, value in answer.items():
                arrays[name][k] = value
        return Properties(arrays, failures, statuses=statuses)

    def evaluate_on(self, communicator: Any, structures: Structures) -> Properties:
        if communicator.Get_rank() == 0:  # the program has ranks of its own
            return self.evaluate(structures)
        quantities = self.quantities(structures.specification)
        return Properties({q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities})

    def _known(self, job: Job) -> Mapping[str, Array] | Failure | None:
        """Return what a finished folder of a structure says; None if its program is to run."""
        if self.solve == "always":
            return None
        numbers = self.folders.finished(job.name)
        if numbers is None:
            why = f"no finished folder of it is kept in '{self.folders.root}'"
            return Failure(why) if self.solve == "never" else None
        try:
            return properties_in(self, self.folders.of(job.name), numbers)
        except Failure as error:
            return error

    def _solved(self, jobs: Sequence[Job]) -> list[Mapping[str, Array] | Failure]:
        """Return the properties of each structure of a launch, or why it has none."""
        if self.batch > 1:
            return launched_together(self, jobs)
        try:
            with self.folders.work(jobs[0].name) as folder:
                jobs[0].write(folder)
                jobs[0].run(folder)
                return [properties_in(self, folder, jobs[0].names(folder).numbers)]
        except Failure as error:
            return [error]

    def folder_of(self, structure: Structures, *, inputs: bool = False) -> Path:
        if not inputs:
            return self.folders.of(structure.ids[0])
        try:
            folder = self.folders.new(f"{structure.ids[0]}-input")
            Job(self, structure).write(folder)
        except Failure as error:
            raise PluginError(str(error)) from None
        return folder


def _check_names(solver: External) -> None:
    """Raise ValueError if a name stands for two things."""
    given = [*(r.name for r in (*solver.readings, *solver.outputs)), *solver.variables]
    for case in solver.cases:
        twice = {*case.variables} & ({*KNOWN, *OWN} | {r.name for r in (*solver.readings, *solver.outputs)})
        if twice:
            raise ValueError(f"'{min(twice)}' stands for two things: give variables of cases other names")
    taken = sorted({name for name in given if given.count(name) > 1} | {*given} & ({*OWN} | {*KNOWN}))
    if taken:
        raise ValueError(f"'{taken[0]}' stands for two things: give outputs, readings and variables other names")
    cases = [case.name for case in solver.cases]
    files = [OUTPUT, FINISHED, VALUES, *(given.file for given in solver.inputs)]
    files += [path.name for path in (*solver.link, *solver.copy)]
    for what, names in (
        ("cases", cases),
        (f"files of inputs, link and copy (with {OUTPUT}, {FINISHED} and {VALUES})", files),
    ):
        if len({*names}) < len(names):
            raise ValueError(f"two {what} have one name: give them others")


def _check_templates(solver: External) -> None:
    """Raise ValueError if a text or an argument is no template."""
    commands = (solver.command, solver.launcher, *solver.steps, *(case.command for case in solver.cases))
    texts = {f"argument '{text}'": text for arguments in commands for text in arguments}
    for what, text in {**texts, **{f"input '{given.file}'": given.text for given in solver.inputs}}.items():
        why = templates.check(text)
        if why:
            raise ValueError(f"{what} is no template: {why}")


def _key(solver: External) -> str:
    """Return 16 hex digits of all that decides what the program does, the contents of files included."""
    settings = {name: _plain(getattr(solver, name)) for name in LAUNCH}
    paths = [*solver.link, *solver.copy, *(given.template for given in solver.inputs), solver.setup]
    files = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p is not None and p.is_file()}
    text = json.dumps([settings, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
