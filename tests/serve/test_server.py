"""`msvae serve`: the same numbers as from Python, and nothing that is sent to it ends it."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, RunError
from msvae.campaigns.launch import launch
from msvae.serve.models import models_of
from msvae.serve.server import LARGEST, Server


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small: Callable[[str], str]) -> Run:
    folder = tmp_path_factory.mktemp("served")
    (folder / "study.toml").write_text(small("train"))
    launch(folder / "study.toml", folder / "run")
    return Run.open(folder / "run")


@contextmanager
def serving(target: Path, token: str = "") -> Iterator[Server]:
    with Server(("127.0.0.1", 0), models_of(target), token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(run: Run) -> Iterator[Server]:
    with serving(run.path) as found:
        yield found


def sent(server: Server, path: str, body: bytes | dict[str, Any], **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


def test_clients_get_the_numbers_that_python_gives_to_the_bit(server: Server, run: Run) -> None:
    umbridge = pytest.importorskip("umbridge")
    assert umbridge.supported_models(server.url) == ["head", "decoder", "design", "solver"]
    models = {name: umbridge.HTTPModel(server.url, name) for name in umbridge.supported_models(server.url)}
    z = [0.3, -0.2, 1.1]
    vae, solver = run.model, run.study.need_solver()
    assert models["head"]([z]) == [vae.predict([z])["conductivity"].ravel().tolist()]
    decoded = vae.decode([z])
    assert models["decoder"]([z]) == [decoded.values.astype(float).ravel().tolist()]
    properties = solver.evaluate(decoded)["conductivity"].ravel().tolist()
    assert models["design"]([z]) == [properties]
    assert models["solver"]([decoded.values.astype(float).ravel().tolist()]) == [properties]
    assert models["head"].get_input_sizes() == [3]
    assert models["solver"].get_output_sizes() == [4]


def test_gradients_are_those_of_differences(server: Server) -> None:
    models, rng = server.models, np.random.default_rng(0)
    for name, point in [("head", rng.standard_normal(3)), ("solver", rng.uniform(0.1, 0.9, 64))]:
        sensitivity = rng.standard_normal(4)
        status, answer = sent(server, "/Gradient", {"name": name, "input": [point.tolist()], "outWrt": 0, "inWrt": 0,
                                                    "sens": sensitivity.tolist()})  # fmt: skip
        assert status == 200
        direction, h = rng.standard_normal(len(point)), 1e-3
        ahead, behind = (models[name].evaluate(point + s * h * direction)[0] @ sensitivity for s in (1, -1))
        assert answer["output"] @ direction == pytest.approx((ahead - behind) / (2 * h), rel=2e-2)


SOLVER = """
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Loose(msvae.Solver):
    '''The fraction of phase 1, where it is no more than half.'''
    name = "loose"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"), msvae.Quantity("area", "m^2"))

    def evaluate(self, structures):
        share = structures.fractions[:, 1]
        if (share > 0.9).any():
            raise ValueError("too dense")
        return {"fraction": share, "area": float("nan") * share}

@msvae.hook
def msvae_solvers():
    return [Loose]
"""


def test_a_study_offers_its_solver_and_its_failures_are_errors(tmp_path: Path) -> None:
    (tmp_path / "loose.py").write_text(SOLVER)
    study = tmp_path / "study.toml"
    study.write_text("""campaign = "label"
plugin_files = ["loose.py"]
[dataset]
name = "simulated"
shape = [8, 8]
[solver]
name = "loose"
""")
    with serving(study) as server:
        assert [*server.models] == ["solver"]
        assert sent(server, "/OutputSizes", {"name": "solver"}) == (200, {"outputSizes": [1, 1]})
        for values, status, kind, words in [
            ([1.0] * 64, 500, "InvalidOutput", "too dense"),
            ([0.0, 1.0] * 32, 500, "InvalidOutput", "area"),
            ([0.5] * 64, 400, "InvalidInput", "whole numbers of phases"),
        ]:
            found, answer = sent(server, "/Evaluate", {"name": "solver", "input": [values]})
            assert (found, answer["error"]["type"]) == (status, kind)
            assert words in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "words"),
    [
        ("/Evaluate", {"name": "head", "input": [[0.0, 0.0]]}, 400, "InvalidInput", "3 numbers, found 2 values"),
        ("/Evaluate", {"name": "head", "input": [0.0, 0.0, 0.0]}, 400, "InvalidInput", "a list of 1 vectors"),
        ("/Evaluate", {"name": "head", "input": [["0", 0, 0]]}, 400, "InvalidInput", "expected 3 numbers"),
        ("/Evaluate", {"name": "head", "input": [[True, 0, 0]]}, 400, "InvalidInput", "expected 3 numbers"),
        ("/Evaluate", b'{"name": "head", "input": [[1e999, 0, 0]]}', 400, "InvalidInput", "finite"),
        ("/Evaluate", b'{"name": "head", "input": [[NaN, 0, 0]]}', 400, "InvalidInput", "NaN is no number"),
        ("/Evaluate", b'{"name": "head", "input": [[1' + b"0" * 400 + b", 0, 0]]}", 400, "InvalidInput", "finite"),
        ("/Evaluate", b"[" * 100_000, 400, "InvalidInput", "no JSON"),
        ("/Evaluate", b"\xff\xfe", 400, "InvalidInput", "no JSON"),
        ("/Evaluate", {"name": "none", "input": []}, 400, "ModelNotFound", "no model of this name"),
        ("/Evaluate", {"name": ["head"]}, 400, "InvalidInput", "the name of a model"),
        ("/Evaluate", {"name": "head", "input": [[0, 0, 0]], "config": {"x": 1}}, 400, "InvalidInput", "configuration"),
        ("/Evaluate", {"name": "solver", "input": [[7.0] * 64]}, 400, "InvalidInput", "from 0 to 1"),
        ("/Gradient", {"name": "decoder", "input": [[0, 0, 0]]}, 400, "UnsupportedFeature", "Gradient"),
        ("/Gradient", {"name": "head", "input": [[0, 0, 0]], "outWrt": 1, "inWrt": 0}, 400, "InvalidInput", "outWrt"),
        ("/Gradient", {"name": "head", "input": [[0, 0, 0]], "outWrt": 0, "inWrt": True}, 400, "InvalidInput", "inWrt"),
        ("/ApplyHessian", {"name": "head"}, 400, "UnsupportedFeature", "ApplyHessian"),
        ("/../../etc/passwd", {}, 404, "NotFound", "no '/../../etc/passwd'"),
    ],
)  # fmt: skip
def test_improper_questions_get_one_sentence(
    server: Server, path: str, body: bytes | dict[str, Any], status: int, kind: str, words: str
) -> None:
    found, answer = sent(server, path, body)
    assert (found, answer["error"]["type"]) == (status, kind)
    assert words in answer["error"]["message"]


def test_requests_that_are_too_large_or_cut_off_cost_nothing(server: Server) -> None:
    for head, status in [(f"Content-Length: {LARGEST + 1}", b"413"), ("Content-Length: -1", b"411"), ("", b"411"),
                         ("Content-Length: 1e3", b"411"), ("Content-Length: 10", b"400")]:  # fmt: skip
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.sendall(f"POST /Evaluate HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{{}}".encode())
            connection.shutdown(socket.SHUT_WR)
            assert status in connection.recv(100).split(b"\r\n")[0]


def test_pages_in_a_browser_and_other_machines_may_not_ask(run: Run, server: Server) -> None:
    question = {"name": "head"}
    assert sent(server, "/InputSizes", question)[0] == 200
    assert sent(server, "/InputSizes", question, Origin="http://evil.example")[0] == 403
    assert sent(server, "/InputSizes", question, Host="evil.example:4242")[0] == 403
    with serving(run.path, token="secret-word") as guarded:
        assert guarded.url.endswith("/secret-word")
        assert sent(guarded, "/secret-word/InputSizes", question) == (200, {"inputSizes": [3]})
        assert sent(guarded, "/InputSizes", question, Authorization="Bearer secret-word")[0] == 200
        for path in ("/InputSizes", "/wrong/InputSizes", "//InputSizes"):
            assert sent(guarded, path, question)[0] == 403


def _mutated(rng: random.Random, request: bytes) -> bytes:
    """Return a request with some bytes changed, doubled, removed or moved."""
    data = bytearray(request)
    for _ in range(rng.randint(1, 6)):
        i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        change = rng.randrange(5)
        if change == 0:
            del data[i : min(j, i + 20)]
        elif change == 1:
            data[i:i] = data[i : i + 30]
        elif change == 2:
            data[i:i] = rng.choice(
                [b"\0", b"NaN", b"-1e308", b"[]", b'"', b"\xff", b"{", b"99999999999999999999", b"\r\n"]
            )
        elif data:
            data[min(i, len(data) - 1)] = rng.randrange(256)
    return bytes(data)


def fuzzed(server: Server, count: int, log: Callable[[], int]) -> None:
    """Send changed requests; then a proper one has its answer."""
    rng, before = random.Random(1), log()
    bodies = [json.dumps({"name": name, "input": [[0.1] * n], "outWrt": 0, "inWrt": 0, "sens": [1.0] * 4, "config": {}})
              for name, n in (("head", 3), ("decoder", 3), ("solver", 64))]  # fmt: skip
    for k in range(count):
        body = bodies[k % 3].encode()
        path = ("Evaluate", "Gradient", "InputSizes", "ModelInfo")[k % 4]
        if k % 2:  # a proper head, and a body that is not
            body = _mutated(rng, body)
        head = f"POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        request = head + body if k % 2 else _mutated(rng, head + body)
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                continue
    assert sent(server, "/Evaluate", {"name": "head", "input": [[0.0, 0.0, 0.0]]})[0] == 200
    assert log() == before, "an answer raised"


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_changed_requests_leave_it_serving(server: Server, caplog: pytest.LogCaptureFixture, count: int) -> None:
    fuzzed(server, count, lambda: sum(r.levelname == "ERROR" for r in caplog.records))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_command_serves_until_it_is_interrupted(run: Run, number: int) -> None:
    """Also where it is started as a shell starts a job with &, which ignores Ctrl-C."""
    command = [
        "bash",
        "-c",
        'trap "" INT; exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "msvae",
        "serve",
        str(run.path),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0].startswith("head: [3] -> [4], with gradients")
        assert "serving at http://127.0.0.1:" in lines[4]
        process.send_signal(number)
        assert process.wait() == 0
        assert process.stderr.read() == ""


def test_nothing_to_serve_is_said_in_one_sentence(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('campaign = "train"\n[dataset]\nname = "simulated"\n[model]\nlatents = 2\n')
    with pytest.raises(RunError, match="neither a trained model nor a solver"):
        models_of(study)
    with pytest.raises(RunError, match="not a run directory"):
        models_of(tmp_path.parent)
