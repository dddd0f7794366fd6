"""The status of a run, read from its directory alone; nothing from the study is executed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from msvae.errors import RunError
from msvae.files.border import check_folder, read_json

__all__ = ["CODES", "status_of"]

CODES = {"done": 0, "stopped": 75, "lost": 76, "failed": 1, "running": 3}  # of `msvae status --exit-code`


def status_of(directory: Path) -> dict[str, Any]:
    """Return the content of a run's status.json; "state" is "lost" if its process ended without reporting it.

    RunError if the directory is not a run, or the file is damaged.
    """
    check_folder(directory)
    state = read_json(directory / "status.json")
    if state is None:
        raise RunError(f"'{directory}' has no status.json: give the directory of a run that has been started")
    if not isinstance(state, dict) or "state" not in state:
        raise RunError(f"'{directory / 'status.json'}' is damaged (it has no key 'state'): delete it and --resume")
    if state["state"] == "running" and state.get("host") == platform.node() and not _lives(state.get("process")):
        state |= {"state": "lost", "why": "its process is gone: go on with --resume"}
    return state


def _lives(process: Any) -> bool:
    if not isinstance(process, int) or process < 1:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # gone, or no number of a process
        return False
    except PermissionError:  # another user's
        pass
    return True
