"""The voxel solvers are tested with two threads, as they run where nobody has set a number."""

import pytest


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
