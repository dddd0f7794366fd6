"""Models of others behind UM-Bridge as solvers: the package's own server is the other side."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import msvae
import msvae.testing
from msvae import Run, RunError, Structures, StudyError
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce
from msvae_umbridge import UmBridge

SERVER = """
import sys, umbridge

class Posterior(umbridge.Model):
    '''The sum of squares of an input, with its gradient; it fails for what begins with a one.'''
    def __init__(self): super().__init__("posterior")
    def get_input_sizes(self, config): return [16, 2]
    def get_output_sizes(self, config): return [2, 1]
    def supports_evaluate(self): return True
    def supports_gradient(self): return True
    def __call__(self, parameters, config):
        x, y = parameters
        if x[0] == 1: raise ValueError("no convergence")
        return [[sum(v * v for v in x), config.get("offset", 0.0)], [y[0] * sum(x) if x[1] != 1 else float("nan")]]
    def gradient(self, out_wrt, in_wrt, parameters, sens, config):
        x, y = parameters
        return [sens[0] * 2 * v for v in x] if out_wrt == 0 else [sens[0] * y[0] for v in x]

umbridge.serve_models([Posterior()], int(sys.argv[1]))
"""
OUTPUTS = (
    {"name": "square", "unit": "J"},
    {"name": "offset", "first": 1},
    {"name": "mass", "output": 1, "factor": 2.0},
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that is no other than what the package umbridge makes of a model."""
    pytest.importorskip("umbridge")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path_factory.mktemp("server") / "server.py"
    script.write_text(SERVER)
    process = subprocess.Popen([sys.executable, str(script), str(port)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while process.poll() is None:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def solver(*urls: str, **settings: object) -> UmBridge:
    found = msvae.load_solver("um-bridge", urls=urls, model="posterior", inputs=["values", [0.5, 3.0]],
                              outputs=OUTPUTS, config={"offset": 4.0}, **settings)  # fmt: skip
    assert isinstance(found, UmBridge)
    return found


def structures() -> Structures:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:, 2:] = 1
    labels[1, 0, 0] = 1  # fails
    labels[2, 0, 1] = 1  # has no mass
    return Structures.from_labels(labels, spacing=1e-6, phases=2)


@pytest.mark.parametrize("check", msvae.testing.checks(UmBridge), ids=str)
def test_conformance(check: msvae.testing.Check) -> None:
    check()


def test_a_served_model_is_a_solver_and_its_failures_are_labelled(url: str) -> None:
    found = solver(url).evaluate(structures())
    np.testing.assert_array_equal(found["square"], [8, np.nan, np.nan, 8])
    np.testing.assert_array_equal(found["offset"], [4, np.nan, np.nan, 4])
    np.testing.assert_array_equal(found["mass"], [8, np.nan, np.nan, 8])  # 2 x .5 x 8
    assert set(found.failures) == {1, 2}


def test_several_servers_share_a_batch_and_one_that_is_dead_is_left_out(url: str) -> None:
    dead = "http://127.0.0.1:9"
    found = solver(dead, url, url).evaluate(structures()[[0, 3, 0, 3]])
    np.testing.assert_array_equal(found["square"], [8, 8, 8, 8])
    alone = solver(dead).evaluate(structures())
    assert set(alone.failures) == {0, 1, 2, 3}
    assert "127.0.0.1:9 cannot be reached" in alone.failures[0]


def test_gradients_come_from_the_server(url: str) -> None:
    grey = Structures.from_values(np.linspace(0, 0.9, 32).reshape(2, 4, 4), 1e-6)
    gradient = solver(url).pullback(grey, {"square": np.array([1.0, 2.0]), "offset": np.zeros(2), "mass": np.ones(2)})
    assert gradient is not None
    np.testing.assert_allclose(gradient, 2 * grey.values * np.array([1, 2])[:, None, None, None] + 2 * 0.5)


def test_a_campaign_runs_on_it_and_a_strangers_one_only_with_trust(url: str, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(f"""
campaign = "label"
[dataset]
name = "simulated"
count = 12
shape = [4, 4]
length = [2e-6, 2e-6]
[solver]
name = "um-bridge"
urls = ["{url}"]
model = "posterior"
inputs = ["values", [0.5, 3.0]]
outputs = [{{ name = "square", unit = "J" }}]
""")
    launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    rows = run.evaluations.to_pandas()
    assert len(rows) == 12
    assert {"done", "failed"} >= set(rows["status"])
    with pytest.raises(RunError, match=r"names a server as solver\.urls"):
        reproduce(tmp_path / "run", tmp_path / "again")
    assert reproduce(tmp_path / "run", tmp_path / "again", trust=True) is not None


def test_what_does_not_fit_is_said_in_one_sentence(url: str, tmp_path: Path) -> None:
    specification = structures().specification
    own = solver(url)
    assert own.misfit(specification) is None
    wrong = msvae.load_solver("um-bridge", urls=[url], model="posterior", outputs=OUTPUTS)
    assert "takes inputs of [16, 2] numbers, and solver.inputs gives [16]" in str(wrong.misfit(specification))
    missing = msvae.load_solver("um-bridge", urls=[url], model="none", outputs=OUTPUTS)
    assert "ModelNotFound" in str(missing.misfit(specification))
    short = msvae.load_solver("um-bridge", urls=[url], model="posterior", inputs=["values", [0.5, 3.0]],
                              outputs=[{"name": "x", "output": 1, "shape": [3]}])  # fmt: skip
    assert "'x' is not in the answer" in short.evaluate(structures()[:1]).failures[0]  # type: ignore[attr-defined]
    for settings, why in [
        ({"urls": ["ftp://x"]}, "addresses of servers"),
        ({"outputs": [*OUTPUTS, OUTPUTS[0]]}, "names of their own"),
        ({"urls": []}, "1 entry or more"),
    ]:
        with pytest.raises(StudyError, match=why):
            msvae.load_solver("um-bridge", **{"urls": [url], "outputs": OUTPUTS, **settings})
