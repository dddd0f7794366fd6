"""The trust boundary: which files and folders of an untrusted run are accepted, and how they are read.

A run may come from anyone. Its files must be regular files below its folder, of bounded size. Anything else (a link
that leads out, a pipe, a device) is an error of one sentence. Every reader of a run's files opens them here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from msvae.errors import MsvaeError, RunError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["check_folder", "content_of", "fitting", "holds", "opened", "read_json", "read_toml"]

JSON, TOML = 1 << 26, 1 << 20  # bytes that such files have at most
SPARSE, HOLES = 1 << 26, 64  # bytes from which a file is looked at, and how many times what is stored it may claim
DEEP, MANY = 16, 1 << 18  # folders in folders, and files and folders of a run
QUOTED = re.compile(r""""(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?""")
DOTTED = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){50}")  # a key of n parts takes tomllib n * n steps
SAID = 300  # characters that are quoted of an error
KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
         (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip
log = logging.getLogger(__name__)


def opened(path: Path, *, most: int | None = None, links: bool = True) -> BinaryIO:
    """Open a regular file for reading; RunError if it is anything else, sparse, or too long.

    most: bytes. links: whether the path's last part may be a link. OSError if it is not there or may not be read.
    """
    _check_kind(path, os.stat(path, follow_symlinks=links))  # before it is opened, which can have effects of its own
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    try:
        found = os.fstat(descriptor)
        _check_kind(path, found)
        if most is not None and found.st_size > most:
            raise RunError(f"'{path}' has {found.st_size} bytes, expected {most} at most: restore it from a copy")
        if found.st_size > SPARSE and found.st_size > HOLES * 512 * found.st_blocks:
            raise RunError(
                f"'{path}' claims {found.st_size} bytes, of which {512 * found.st_blocks} are stored: restore it from "
                "a copy"
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise RunError(f"'{path}' is a link, expected a file: replace it by the file that it points to")
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for check, name in KINDS if check(found.st_mode)), "no regular file")
        raise RunError(f"'{path}' is {kind}, expected a file: remove it, or restore the file from a copy")


def content_of(path: Path, *, most: int | None = None, links: bool = True) -> bytes:
    """Return the content of a file; raises the errors of `opened`."""
    with opened(path, most=most, links=links) as file:
        return file.read() if most is None else file.read(most)


def read_json(path: Path) -> Any:
    """Return the plain values in a file of a run, None if it is not there; RunError if it is damaged or no file."""
    try:
        return json.loads(content_of(path, most=JSON, links=False).decode())
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"'{path}' is damaged ({_said(error)}): delete it and --resume") from None


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the tables in a file of a run; RunError if they cannot be read. what: its name in messages."""
    try:
        text = content_of(path, most=TOML).decode()
        if DOTTED.search(text) or DOTTED.search(QUOTED.sub("x", text)):
            raise ValueError("it has a key of 50 parts or more")
        return tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"'{path}' is not {what} ({_said(error)}): restore it from a copy") from None


def holds(folder: Path, part: Path) -> bool:
    """Return whether a path, with links resolved, is in a folder."""
    try:
        return part.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, or no path at all
        return False


def check_folder(folder: Path) -> None:
    """Raise RunError unless a run's folder contains only files, folders, and links to targets inside it."""
    left, count = [(folder, 0)], 0
    while left:
        here, depth = left.pop()
        try:
            parts = list(os.scandir(here))
        except FileNotFoundError:  # its writer has removed it meanwhile
            continue
        except OSError as error:
            raise RunError(f"'{here}' cannot be read: {error.strerror}; allow reading it") from None
        count += len(parts)
        if depth > DEEP or count > MANY:
            raise RunError(
                f"'{folder}' is not a run directory: it has more than {DEEP} folders in each other, or {MANY} files; "
                "give the --output of a run"
            )
        left += [(Path(part), depth + 1) for part in parts if _is_folder(part, folder)]


def _is_folder(part: os.DirEntry[str], run: Path) -> bool:
    """Return whether an entry of a run is a folder; RunError if it is neither a file nor a folder."""
    if part.is_symlink():
        if not holds(run, Path(part)):
            raise RunError(f"'{part.path}' is a link that leads out of the run, to what is not in the run: replace it")
        return False
    if part.is_dir(follow_symlinks=False):
        return True
    if not part.is_file(follow_symlinks=False):
        with suppress(FileNotFoundError):  # its writer has removed it meanwhile
            _check_kind(Path(part), part.stat(follow_symlinks=False))
    return False


@contextmanager
def fitting(path: Path, what: str) -> Iterator[None]:
    """Convert any exception caused by inconsistent files of a run into a RunError.

    what: the operation that failed, for the message.
    """
    try:
        yield
    except MsvaeError:
        raise
    except Exception as error:  # a border: each file can be right by itself, and together they can be anything
        log.debug("%s of '%s' failed", what, path, exc_info=True)
        raise RunError(
            f"{what} of '{path}' is not possible, for its files do not fit each other ({type(error).__name__}: "
            f"{_said(error)}): restore them from a copy"
        ) from error


def _said(error: BaseException) -> str:
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return text if len(text) <= SAID else text[: SAID - 3] + "..."
