"""The campaign "compare-dns", and its table [dns]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from msvae.part.settings import PartSettings
from msvae.plugins.annotations import Count, Natural, Unit, Voxels
from msvae.plugins.interfaces import Campaign
from msvae.sampling.fields.settings import FieldSettings
from msvae.study.checks import check_extra

if TYPE_CHECKING:
    from msvae.report.drawing import Drawing
    from msvae.run.directory import Run
    from msvae.run.table import Table
    from msvae.stages.context import Context
    from msvae.study import Study

__all__ = ["CompareDns"]


@dataclass(frozen=True)
class CompareDns(Campaign):
    """[dns]: comparison of a bar with the direct numerical simulation of its microstructure.

    origin, shape: of the bar in the data set's image. sizes: of the cubic structures that it is cut to.
    refine: part elements along a structure's edge. void: the empty phase, of which free sides are made.
    """

    name = "compare-dns"
    table = "dns"
    tables = MappingProxyType({"part": PartSettings, "field": FieldSettings})
    needs = ("part",)

    shape: tuple[Voxels, ...]
    origin: tuple[Annotated[Natural, Unit("voxels")], ...] = ()
    sizes: tuple[Voxels, ...] = ()
    refine: Count = 1
    void: Natural | None = None

    def check(self, study: Study) -> None:
        """Raise StudyError where the package of finite elements is missing."""
        check_extra(study, ("part",), "skfem", "part")

    def run(self, context: Context) -> Table:
        """Return the comparison of the part's properties with those of its resolved microstructure."""
        from msvae.campaigns.compare_dns.run import run

        return run(context)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the comparison, and the field of latents."""
        from msvae.campaigns.compare_dns import figures

        yield figures.dns(run)
        yield figures.field(run)
