"""Every error that msvae raises on purpose.

    MsvaeError              a mistake that a user can mend: one sentence, exit code 2
    ├── StudyError          a key of the study
    ├── PluginError         a plugin that is missing, broken or breaks its contract
    ├── DataError           a file or an array with the wrong content
    │   └── SpacingError    an image that does not say how large its voxels are
    ├── RunError            a run directory that cannot be made, resumed or read
    ├── TargetError         a campaign that cannot be started or ended as asked
    └── Stopped             no mistake: a signal or the wall time ended the campaign; exit code 75, to be resumed

A message names the file or key, what was found, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

__all__ = [
    "DataError",
    "MsvaeError",
    "PluginError",
    "RunError",
    "SpacingError",
    "Stopped",
    "StudyError",
    "TargetError",
    "did_you_mean",
    "visible",
]

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks of direction, halves of characters, separators of lines
LONG = 4000  # characters of a message, of which a file may have brought any number


class MsvaeError(Exception):
    """A mistake that the user can mend; its text, in one line, is the whole message.

    code: what a program exits with.
    """

    code = 2

    def __init__(self, text: str) -> None:
        line = visible(re.sub(r"\s*[\r\n]+\s*", "; ", text.strip()))
        super().__init__(line if len(line) <= LONG else line[: LONG - 3] + "...")


class StudyError(MsvaeError):
    """A key of the study is unknown, missing, of the wrong type, or does not fit the rest."""


class PluginError(MsvaeError):
    """A plugin is unknown, did not load, or breaks its contract."""


class DataError(MsvaeError):
    """A file or an array does not hold what it should."""


class SpacingError(DataError):
    """An image does not say how large its voxels are."""


class RunError(MsvaeError):
    """A run directory cannot be made, resumed or read."""


class TargetError(MsvaeError):
    """A campaign's target cannot be worked on."""


class Stopped(MsvaeError):  # noqa: N818 - no error
    """A signal or the wall time ended the campaign at a clean point; exit code 75 (EX_TEMPFAIL).

    busy: whether evaluations still run, which cannot be waited for.
    """

    code = 75

    def __init__(self, text: str, *, busy: bool = False) -> None:
        super().__init__(text)
        self.busy = busy


NEAR = 0.65  # likeness of two words, 0 to 1, from which one may have been meant for the other


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " - did you mean 'x'?" for the nearest known word, or "".

    >>> did_you_mean("elastcity", ["conductivity", "elasticity"])
    " - did you mean 'elasticity'?"
    >>> did_you_mean("thermal", ["permeability"])
    ''
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=NEAR)
    return f" - did you mean '{near[0]}'?" if near else ""


def visible(text: str) -> str:
    r"""Return a text whose control characters, which a terminal would obey, are written out; lines stay lines.

    >>> visible("red \x1b[31m")
    'red \\u001b[31m'
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c) not in HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else f"\\U{ord(character):08x}"
