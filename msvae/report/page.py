"""The report page: a self-contained report.html of a run, with its figures as PNG beside it."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.text import Text

from msvae.errors import RunError, visible
from msvae.files.atomic import write_atomically
from msvae.files.border import fitting
from msvae.metrics.solver_errors import property_errors
from msvae.report.drawing import Drawing
from msvae.report.figures import FIGURES
from msvae.run.directory import Run
from msvae.run.table import Table
from msvae.structures.evaluations import Evaluations

__all__ = ["write_report"]

log = logging.getLogger(__name__)
LONG = 200  # characters of a text in a figure
TICKS = "mathdefault"  # in the formulas that matplotlib itself writes, beside ticks
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .8rem 0; } th, td { padding: .25rem .8rem; text-align: left; }
th { border-bottom: 2px solid #333; } td { border-bottom: 1px solid #e4e4e4; font-variant-numeric: tabular-nums; }
figure { margin: 1.2rem 0; } img { max-width: 100%; } figcaption { color: #444; font-size: .9rem; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .8rem; }
"""


def write_report(directory: str | Path, *, trust: bool = False) -> Path:
    """Draw the figures of a run, write report.html into it, and return its path.

    trust: whether the run's plugin files may be executed.
    """
    run = Run.open(directory, trust=trust)
    with fitting(run.path, "a report"):
        drawings = list(_drawings(run))
        images = {d.name: _png(d) for d in drawings}
        text = _page(run, drawings, images).encode(errors="backslashreplace")
    figures = run.path / "figures"
    try:
        figures.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"'{figures}' cannot be created: {error.strerror}; remove what is there") from None
    for name, image in images.items():
        write_atomically(figures / f"{name}.png", image)
    page = run.path / "report.html"
    write_atomically(page, text)
    return page


def _drawings(run: Run) -> Iterator[Drawing]:
    with mpl.rc_context(fname=str(Path(__file__).with_name("msvae.mplstyle"))):
        for drawing in (*(draw(run) for draw in FIGURES), *run.study.campaign.figures(run)):
            if drawing is not None:
                yield drawing


def _png(drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    for text in drawing.figure.findobj(Text):
        said = text.get_text()
        text.set_text(visible(said[:LONG]))
        if "$" in said and TICKS not in said:  # a name, which is no formula
            text.set_parse_math(False)
    drawing.figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _page(run: Run, drawings: Sequence[Drawing], images: Mapping[str, bytes]) -> str:
    title = html.escape(run.study.title or f"{run.study.campaign.name}: {run.path.name}")
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
        _summary(run.read_json("summary.json", Table)),
        _evaluations(run),
        _solver_errors(run),
        "<h2>Figures</h2>",
    ]
    for drawing in drawings:
        data = base64.b64encode(images[drawing.name]).decode()
        caption = html.escape(drawing.caption)
        parts.append(
            f"<figure><img alt='{caption}' src='data:image/png;base64,{data}'>"
            f"<figcaption>{caption}</figcaption></figure>"
        )
    parts += [
        "<h2>Provenance</h2>",
        _provenance(run.read_json("provenance.json", dict[str, Any])),
        "<h2>Study</h2>",
        f"<pre>{html.escape(run.study.frozen())}</pre>",
        "</html>",
    ]
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _summary(summary: Table | None) -> str:
    if summary is None:
        return "<p>The campaign has not ended yet.</p>"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in summary.notes)
    heading = f"<p><strong>{html.escape(summary.heading)}</strong></p>" if summary.heading else ""
    return f"<h2>{html.escape(summary.title)}</h2>{heading}{_table(summary.columns, summary.rows)}{notes}"


def _evaluations(run: Run) -> str:
    rows = []
    for stage in run.stages:
        table = run.store(stage).load()
        rows.append(
            (
                stage,
                str(len(table)),
                _failures(table),
                f"{table['cost'].sum():.1f}",
                f"{1e3 * table['cost'].mean():.1f}",
            )
        )
    if not rows:
        return ""
    columns = ("stage", "evaluations", "failed", "solver time (s)", "mean (ms)")
    return f"<h2>Evaluations</h2>{_table(columns, rows)}"


def _solver_errors(run: Run) -> str:
    """Return the table of both errors of every property, stage by stage."""
    rows = [(stage, *found.row) for stage in run.stages for found in property_errors([run.store(stage).load()])]
    if not rows:
        return ""
    columns = ("stage", "property", "evaluations", "discretisation error", "iteration error")
    said = (
        "As the solver estimates them, for the largest entry of the property of each structure. Discretisation: how "
        "far it is from that on ever finer voxels; it has the same sign in all structures, as a rule. Iterations: what "
        "they left undone."
    )
    return f"<h2>Errors of the solver</h2>{_table(columns, rows)}<p>{said}</p>"


def _failures(table: Evaluations) -> str:
    """Return the numbers of failed evaluations by kind of failure."""
    ways = Counter(table["status"][~table.done].tolist())
    count = sum(ways.values())
    return f"{count} ({', '.join(f'{n} {way}' for way, n in sorted(ways.items()))})" if count else "0"


def _provenance(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "<p>unknown</p>"
    short = {key: value for key, value in values.items() if key != "packages"}
    packages = html.escape(_plain_text(values.get("packages", {})))
    return (
        _table(("what", "value"), [(key, _plain_text(value)) for key, value in short.items()])
        + f"<details><summary>Installed packages</summary><p>{packages}</p></details>"
    )


def _plain_text(value: Any) -> str:
    """Return plain values in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain_text(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(" ".join(map(str, v.values())) if isinstance(v, dict) else str(v) for v in value)
    return str(value)
