"""Groups: ranks that run one MPI-parallel solver together, led by the one that takes tasks.

Rank 0 of the world is the manager; the other ranks form groups of `ranks_per_solver`, each with its own communicator. A
leader tells its group what to evaluate; every member calls the solver with the group's communicator. If one member
fails while the others wait for it in the solver, the group is lost: it reports that, and the manager goes on without
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from msvae.dispatch import signs, world
from msvae.dispatch.known import File
from msvae.errors import StudyError
from msvae.plugins.interfaces import Solver
from msvae.structures import Structures

__all__ = ["Group", "here", "split_world"]

GRACE = 10.0  # seconds in which the others of a group have to fail too, where one of them fails
NAP = 0.001

Loader = Callable[[File], Solver]


@dataclass(frozen=True)
class Group:
    """The ranks that run a solver together.

    communicator: theirs; None on the manager, and on a rank that is left over. tasks: that of the manager and the
    leaders; None on a rank that only helps. leader: rank in the world of the one that leads.
    """

    communicator: Any | None
    tasks: Any | None
    leader: int = 0

    def evaluate(self, study: File, solver: Solver, structures: Structures) -> Mapping[str, Any]:
        """Let the group evaluate structures and return the leader's result; called by the leader."""
        errand = signs.current()
        self._tell((study, structures, errand))
        return self._together(lambda: solver, structures, errand)

    def serve(self, load: Loader) -> None:
        """Help the leader until it dismisses its members; load: from the study's file to the solver."""
        while self.communicator is not None:
            message = self._tell(None)
            if message is None:
                return
            study, structures, errand = message
            with suppress(Exception, SystemExit):  # the leader has been told
                self._together(partial(load, study), structures, errand)

    def dismiss(self) -> None:
        """Dismiss the members; called by the leader."""
        if self.communicator is not None and self.tasks is not None:
            self._tell(None)

    def _tell(self, message: Any) -> Any:
        """Return the leader's message, once the whole group has met; ranks sleep while they wait."""
        assert self.communicator is not None
        request = self.communicator.Ibarrier()
        while not request.Test():
            time.sleep(NAP)
        return self.communicator.bcast(message, root=0)

    def _together(
        self, solver: Callable[[], Solver], structures: Structures, errand: signs.Errand | None
    ) -> Mapping[str, Any]:
        assert self.communicator is not None
        error: Exception | SystemExit | None = None
        found: Mapping[str, Any] = {}
        with signs.busy_with(errand, structures.ids[0], rank=world.rank(), team=self.leader):
            try:
                found = solver().evaluate_on(self.communicator, structures)
            except (Exception, SystemExit) as raised:  # a border: a solver may raise anything
                error = raised
            self._meet(error, errand)
        failures = self.communicator.allgather(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        elsewhere = [(rank, text) for rank, text in enumerate(failures) if text is not None]
        if elsewhere:
            raise RuntimeError(f"rank {elsewhere[0][0]} of the group failed: {elsewhere[0][1]}")
        return found

    def _meet(self, error: BaseException | None, errand: signs.Errand | None) -> None:
        """Wait for the whole group; report where one member has failed and the others do not come."""
        assert self.communicator is not None
        request, start, said = self.communicator.Ibarrier(), time.monotonic(), error is None or errand is None
        while not request.Test():
            if not said and time.monotonic() - start > GRACE:
                assert errand is not None
                trouble = f"failed ({type(error).__name__}: {error}), the others of its group wait for it in the solver"
                signs.sign_of(errand).say(trouble=trouble)
                said = True
            time.sleep(NAP)


_group: Group | None = None


def here() -> Group | None:
    """Return the group of this rank; None where every rank works alone."""
    return _group


def split_world(world: Any, size: int) -> Group:
    """Split the world, on all of its ranks, into the manager and groups of `size`; return this rank's group.

    Ranks that do not fill a group are idle.
    """
    from mpi4py import MPI

    global _group  # noqa: PLW0603 - a task that arrives by pickle finds its rank's communicator here
    rank, workers = world.Get_rank(), world.Get_size() - 1
    if workers < size:
        raise StudyError(
            f"executor.ranks_per_solver is {size}, but of {workers + 1} ranks {workers} can work: start with at least "
            f"{size + 1} ranks, or ask for fewer"
        )
    number = (rank - 1) // size
    works = rank > 0 and number < workers // size
    communicator = world.Split(number if works else MPI.UNDEFINED, rank)
    takes_tasks = rank == 0 or (works and communicator.Get_rank() == 0)
    tasks = world.Split(0 if takes_tasks else MPI.UNDEFINED, rank)
    leader = 1 + number * size if works else 0
    _group = Group(communicator if works else None, tasks if takes_tasks else None, leader)
    return _group
