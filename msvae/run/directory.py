"""The run directory: all results of a campaign, and everything needed to resume it.

study.toml          the study, frozen: every default written out        plugins/      the plugin files it names
provenance.json     versions, plugins, MPI, host, seed                  structures.h5 the data set, as loaded
evaluations/STAGE/  what the solver said (see store.py)                 model.*       the trained model
training.json       losses of every epoch                               summary.json  the table at the end
status.json         how far it is now (see journal.py)                  log.jsonl     what has happened
workers/            signs of life of a campaign's workers               crashes.json  evaluations that ended a job
figures/, report.html                                                run.lock      who writes to it (see lock.py)
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from msvae.errors import RunError
from msvae.files.atomic import write_atomically
from msvae.files.border import check_folder, fitting
from msvae.files.json_values import read_json
from msvae.files.structures import read_structures, structures_to_bytes, unpacked_values
from msvae.run.files import RunFiles
from msvae.run.frozen_study import mesh_sources, own_study, plugin_sources, with_file_names
from msvae.run.journal import Journal
from msvae.run.lock import NAME as LOCK
from msvae.run.provenance import provenance
from msvae.run.store import EvaluationStore
from msvae.structures import Quantity, Structures
from msvae.structures.evaluations import Evaluations, joined
from msvae.study import Study

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["LABEL", "PHASES", "Run"]

LABEL = "label"  # the stage in which a data set is evaluated
UNFINISHED = "unfinished"  # a mark: the run is being made or deleted, and what is there may go
PHASES = "phases"  # the stage in which the pure phases are


class Run(RunFiles):
    """A run directory; made by `Run.start`, read by `Run.open`.

    study: if already loaded. trust: whether plugin files of the run may be executed to load it.
    """

    def __init__(self, path: Path, study: Study | None = None, *, trust: bool = False) -> None:
        self.path, self.trust, self.is_new = path, trust, False
        if study is not None:
            self.__dict__["study"] = study

    @cached_property
    def study(self) -> Study:
        """The frozen study. RunError if it brings plugin files and the run is not trusted: they would be executed."""
        return own_study(self.path, trust=self.trust)

    @classmethod
    def start(cls, path: str | Path, study: Study, *, resume: bool = False, force: bool = False) -> Run:
        """Create the directory of a new run, or resume an existing one.

        resume: resume the existing run, if its study asks for the same results.
        force: replace the existing run. Raises RunError otherwise, and if the directory cannot be written.
        """
        directory = Path(path)
        cls.check(directory, resume=resume, force=force)
        if resume and (directory / "study.toml").exists():
            return cls._resume(directory, study)
        return cls._create(directory, study)

    @staticmethod
    def check(directory: Path, *, resume: bool = False, force: bool = False) -> None:
        """Raise RunError if a run can be neither created nor resumed."""
        try:
            directory.stat()
        except FileNotFoundError:
            pass
        except OSError as error:  # of a name that is too long, or in a folder that may not be read
            raise RunError(f"'{directory}' cannot be created: {error.strerror}; give another --output") from None
        if (directory / "study.toml").exists():
            if not resume and not force:
                raise RunError(
                    f"'{directory}' holds a run already: continue it with --resume, replace it by --force, or "
                    "give another --output"
                )
        elif directory.exists() and not directory.is_dir():
            raise RunError(f"'{directory}' is not a directory: give another --output")
        elif directory.is_dir() and not _is_unfinished(directory) and _content(directory):
            raise RunError(f"'{directory}' is not empty and not a run: give an --output that does not exist yet")

    @classmethod
    def open(cls, path: str | Path, *, trust: bool = False) -> Run:
        """Open a run for reading; RunError if the directory is not a run, or has links that lead out of it.

        Nothing from the run is executed unless it is trusted; then its plugin files are.
        """
        directory = Path(path)
        if not (directory / "study.toml").is_file():
            raise RunError(f"'{directory}' is not a run directory: it has no study.toml; give the --output of a run")
        check_folder(directory)
        return cls(directory, trust=trust)

    @classmethod
    def _create(cls, directory: Path, study: Study) -> Run:
        run = cls(directory, study)
        run.is_new = True
        sources, meshes = plugin_sources(study), mesh_sources(study)  # what is missing is said before anything goes
        try:
            directory.mkdir(parents=True, exist_ok=True)
            run._clear()
            for name, source in sources.items():
                (directory / "plugins" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, directory / "plugins" / name)
            for source in meshes:
                shutil.copy(source, directory / source.name)
        except OSError as error:
            raise RunError(f"'{directory}' cannot be created: {error.strerror}; give another --output") from None
        files = [f"plugins/{Path(f).name}" for f in study.plugin_files]
        run.write_json("provenance.json", provenance(study))
        frozen = with_file_names(study).tables | ({"plugin_files": files} if files else {})
        write_atomically(directory / "study.toml", tomli_w.dumps(frozen).encode())
        (directory / UNFINISHED).unlink()
        return run

    def discard(self) -> None:
        """Remove the files of a run for which nothing was computed; its directory stays."""
        self._clear()
        (self.path / UNFINISHED).unlink()

    def _clear(self) -> None:
        """Delete what the directory holds, the study last but for a mark that all of it may go, which stays."""
        if not _is_unfinished(self.path):
            (self.path / UNFINISHED).unlink(missing_ok=True)
        (self.path / UNFINISHED).touch()
        for part in sorted(_content(self.path), key=lambda p: p.name == "study.toml"):
            if part.name != UNFINISHED:
                shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()

    @property
    def has_results(self) -> bool:
        """Whether anything has been trained, or evaluated apart from the pure phases."""
        return bool(set(self.stages) - {PHASES}) or self.model_file.exists() or (self.path / "training.json").exists()

    @classmethod
    def _resume(cls, directory: Path, study: Study) -> Run:
        for name, source in plugin_sources(study).items():
            copy = directory / "plugins" / name
            if not copy.is_file() or copy.read_bytes() != source.read_bytes():
                raise RunError(
                    f"'{directory}' was made with another plugin file '{name}': resume it with the one that it "
                    f"keeps ('{copy}'), or give another --output"
                )
        run = cls.open(directory, trust=True)
        change = with_file_names(run.study).difference(with_file_names(study))
        if change:
            raise RunError(
                f"'{directory}' is the run of another study: {change}; resume it with its own study, or give "
                "another --output"
            )
        return run

    @cached_property
    def structures(self) -> Structures:
        """The data set's structures, with the properties that came with them."""
        return read_structures(self.structures_file)

    @property
    def labelled(self) -> Structures:
        """The data set's structures with the solver's properties; NaN where not evaluated or failed."""
        structures, solver = self.structures, self.study.solver
        if solver is None or LABEL not in self.stages:
            return structures
        return self.with_labels(solver.quantities(structures.specification))

    def with_labels(self, quantities: Sequence[Quantity]) -> Structures:
        """Return the data set's structures with the labels of some quantities."""
        with fitting(self.path, "reading the labels"):
            return self._with_labels(self.structures, quantities)

    def _with_labels(self, structures: Structures, quantities: Sequence[Quantity]) -> Structures:
        table = self.store(LABEL).load()
        properties = {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities}
        for name, array in properties.items():
            array[table["index"]] = table.properties[name]
        return structures.with_properties(properties, quantities)

    @property
    def label_solver(self) -> str | None:
        """Name and key of the solver that labelled the data set, as in `run.cache.solver_key`; None if none did."""
        if LABEL not in self.stages:
            return None
        with fitting(self.path, "reading the labels"):
            known = {" ".join(str(text).split()[:2]) for text in self.store(LABEL).load()["solver"]}
        return min(known, default=None)

    @cached_property
    def plot(self) -> Any:
        """Plots of the run, for notebooks: `losses()`, `latents()`, `structures()`, `parity()`."""
        return importlib.import_module("msvae.report.plots").Plots(self)  # a room above this one

    @cached_property
    def model(self) -> VAE:
        """The trained VAE; RunError if there is none yet."""
        from msvae.vae.files import load_model

        if not self.model_file.exists():
            how = (
                'its campaign trains none: run a study with campaign = "train", which may take it as data set'
                if self.study.campaign.name == "label"
                else "let its campaign train one (--resume)"
            )
            raise RunError(f"'{self.path}' has no model: {how}")
        return load_model(self.model_file)

    @property
    def stages(self) -> list[str]:
        """Names of the stages that have evaluations."""
        folder = self.path / "evaluations"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    @cached_property
    def journal(self) -> Journal:
        """The journal of the run's events."""
        return Journal(self.path)

    def store(
        self, stage: str, quantities: Sequence[Quantity] = (), origin: Mapping[str, str] | None = None
    ) -> EvaluationStore:
        """Return the store of a stage's evaluations. origin: texts to be written with every row."""
        return EvaluationStore(self.path / "evaluations" / stage, quantities, origin)

    @property
    def evaluations(self) -> Evaluations:
        """Every acknowledged evaluation of every stage."""
        with fitting(self.path, "joining the evaluations"):
            return joined([self.store(stage).load().stamped({}, {"stage": stage}) for stage in self.stages])

    def decoded_structures(self, stage: str) -> Structures:
        """Return the structures (n) of a stage's evaluations, row by row.

        RunError if they were not kept (`[store] structures = true`).
        """
        packed = self.store(stage).load().packed
        if packed is None:
            raise RunError(f"'{self.path}' did not keep the structures of stage '{stage}': set store.structures = true")
        specification = self.structures.specification
        with fitting(self.path, "reading the structures"):
            return Structures(unpacked_values(packed, specification), specification)

    def save_structures(self, structures: Structures, name: str = "structures.h5") -> None:
        """Write structures into the run."""
        write_atomically(self.path / name, structures_to_bytes(structures))

    def write_json(self, name: str, value: Any) -> None:
        """Write plain values into the run."""
        write_atomically(self.path / name, json.dumps(value, indent=1).encode())

    def read_json(self, name: str, kind: Any = Any, keys: Sequence[str] = ()) -> Any:
        """Return the values that `write_json` wrote, or None if there is no file; RunError if it is damaged.

        kind: expected type. keys: keys that it, or every row of it, must have.
        """
        return read_json(self.path / name, kind, keys)


def _is_unfinished(directory: Path) -> bool:
    """Return whether a directory has the mark of a run being created: a regular file, not a link."""
    mark = directory / UNFINISHED
    return mark.is_file() and not mark.is_symlink()


def _content(directory: Path) -> list[Path]:
    """Return the content of a directory, except locks."""
    return [part for part in directory.iterdir() if part.name != LOCK and not part.name.startswith(f"{LOCK}.")]
