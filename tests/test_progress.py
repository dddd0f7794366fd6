"""Progress in a log file: how far, and how long still."""

from __future__ import annotations

import logging

import pytest

from msvae import progress


def test_lines_say_how_far_it_is_and_how_long_it_takes_still(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO), progress.stage_progress("train") as report:
        for done in (40, 50, 60, 100):  # 40 are there from before
            report(done, 100, "ELBO 1.0 nats")
            now += 70.0
    assert caplog.messages == [
        "train 50/100, 350 s left ELBO 1.0 nats",
        "train 60/100, 280 s left ELBO 1.0 nats",
        "train 100/100 ELBO 1.0 nats",
    ]
