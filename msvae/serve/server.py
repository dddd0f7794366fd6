"""The protocol 1.0 of UM-Bridge over HTTP, for whoever may ask.

https://um-bridge-benchmarks.readthedocs.io/en/docs/umbridge/; the server of the package umbridge listens to the whole
network, takes requests of any size, and answers a malformed one with a traceback, so that this is one of our own.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from msvae.errors import MsvaeError
from msvae.serve.models import Model, UnansweredError
from msvae.structures import Array

__all__ = ["Server"]

LARGEST = 1 << 28  # bytes of a request
PATIENCE = 60.0  # s for which a client may be silent in the middle of a request
AT_ONCE = 64  # connections; further ones wait
PROTOCOL = 1.0
LOCAL = ("localhost", "127.0.0.1", "[::1]")
FEATURES = ("Evaluate", "Gradient", "ApplyJacobian", "ApplyHessian")
log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request without an answer: HTTP status, type of the error, and one sentence."""

    def __init__(self, kind: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.kind, self.status = kind, status


class Server(ThreadingHTTPServer):
    """Serves models until `shutdown`. token: that a request has to bring, in its path or as a bearer's; "" for none.

    Raises OSError if the address is taken. Questions to one model are answered one after the other.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], models: Mapping[str, Model], token: str = "") -> None:
        self.models, self.token = models, token
        self.locks = {name: threading.Lock() for name in models}
        self.places = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """The address for clients, with the token in its path."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}" + (f"/{self.token}" if self.token else "")

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self.places:
            super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""
        log.debug("a connection ended", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection; every answer is JSON."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._answer(lambda path: self._info() if path == "/Info" else _unknown(path))

    def do_HEAD(self) -> None:
        self._answer(lambda path: self._info())

    def do_POST(self) -> None:
        self._answer(self._posted)

    def log_message(self, format: str, *values: Any) -> None:
        log.debug(format, *values)

    def _answer(self, work: Callable[[str], Any]) -> None:
        """Send what was asked for, or the reason why not."""
        try:
            status, content = 200, work(self._admitted())
        except RefusedError as error:
            status, content = error.status, {"error": {"type": error.kind, "message": str(error)}}
        except (MsvaeError, ValueError) as error:
            status, content = 400, {"error": {"type": "InvalidInput", "message": str(error)}}
        except Exception as error:  # a border: a stranger's solver may raise anything, and the server goes on
            log.exception("an answer failed")
            status, content = 500, {"error": {"type": "InternalError", "message": f"{type(error).__name__}: {error}"}}
        if status != 200:
            self.close_connection = True  # a body that was not read would be taken for the next request
        data = json.dumps(content, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _admitted(self) -> str:
        """Return the path that is asked for; RefusedError if the client may not ask, such as a page in a browser."""
        if self.headers.get("Origin") is not None:
            raise RefusedError("Forbidden", "pages in a browser may not ask", 403)
        token = self.server.token
        if not token:
            host = (
                self.headers.get("Host", "").rsplit(":", 1)[0] if ":" in self.headers.get("Host", "") else "localhost"
            )
            if host not in LOCAL:
                raise RefusedError("Forbidden", "this server answers to its own machine only", 403)
            return self.path
        _, first, *rest = self.path.split("/")
        if hmac.compare_digest(first.encode(), token.encode()):
            return "/" + "/".join(rest)
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(bearer.encode(), token.encode()):
            return self.path
        raise RefusedError("Forbidden", "the token is missing or wrong: take the address that the server printed", 403)

    def _info(self) -> dict[str, Any]:
        return {"protocolVersion": PROTOCOL, "models": [*self.server.models]}

    def _posted(self, path: str) -> dict[str, Any]:
        given = self._body()
        name = path.removeprefix("/")
        if name == "TestShMem":  # no memory is shared: the client goes on over HTTP
            return {}
        if name not in (*FEATURES, "InputSizes", "OutputSizes", "ModelInfo"):
            raise _unknown(path)
        model = self.server.models.get(_text(given, "name"))
        if model is None:
            raise RefusedError(
                "ModelNotFound", f"there is no model of this name (known: {', '.join(self.server.models)})"
            )
        if name == "ModelInfo":
            has = {"Evaluate": True, "Gradient": model.has_gradient}
            return {"support": {feature: has.get(feature, False) for feature in FEATURES}}
        if given.get("config"):
            raise RefusedError("InvalidInput", "config: this model has no configuration; leave it empty")
        if name in ("InputSizes", "OutputSizes"):
            return {"inputSizes": model.inputs} if name == "InputSizes" else {"outputSizes": model.outputs}
        with self.server.locks[model.name]:
            return {"output": _asked(model, name, given)}

    def _body(self) -> dict[str, Any]:
        """Return the object that was sent; RefusedError if it is too large, cut off, or no JSON object."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError("InvalidInput", "Content-Length: expected the number of bytes", 411)
        if int(length) > LARGEST:
            raise RefusedError("InvalidInput", f"a request has at most {LARGEST} bytes, found {int(length)}", 413)
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise RefusedError("InvalidInput", f"expected {int(length)} bytes, found {len(data)}")
        try:
            given = json.loads(data, parse_constant=_not_finite) if data else {}
        except (ValueError, RecursionError) as error:
            raise RefusedError("InvalidInput", f"the request is no JSON: {error}") from None
        if not isinstance(given, dict):
            raise RefusedError("InvalidInput", f"expected a JSON object, found {type(given).__name__}")
        return given


def _asked(model: Model, feature: str, given: dict[str, Any]) -> Any:
    """Return the answer of a model, as plain lists."""
    if feature != "Evaluate" and not (feature == "Gradient" and model.has_gradient):
        raise RefusedError("UnsupportedFeature", f"{feature} is not supported by model '{model.name}'")
    value = _input(model, given)
    try:
        if feature == "Evaluate":
            return [vector.tolist() for vector in model.evaluate(value)]
        output, into = _index(given, "outWrt", len(model.outputs)), _index(given, "inWrt", len(model.inputs))
        sensitivity = _vector(given.get("sens"), model.outputs[output], "sens")
        gradient = model.gradient(output, value, sensitivity)
    except UnansweredError as error:
        raise RefusedError("InvalidOutput", str(error), 500) from None
    if not np.isfinite(gradient).all():
        raise RefusedError("InvalidOutput", f"the gradient by input {into} is not finite", 500)
    return gradient.tolist()


def _input(model: Model, given: dict[str, Any]) -> Array:
    vectors = given.get("input")
    if not isinstance(vectors, list) or len(vectors) != len(model.inputs):
        raise RefusedError("InvalidInput", f"input: expected a list of {len(model.inputs)} vectors")
    return _vector(vectors[0], model.inputs[0], "input[0]")


def _vector(value: Any, length: int, key: str) -> Array:
    """Return a list of numbers as an array (length,)."""
    numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
    if not numbers or len(value) != length:
        found = f"{len(value)} values" if isinstance(value, list) else type(value).__name__
        raise RefusedError("InvalidInput", f"{key}: expected {length} numbers, found {found}")
    try:
        array = np.array(value, dtype=np.float64)
    except OverflowError:
        array = np.array([np.inf])
    if not np.isfinite(array).all():
        raise RefusedError("InvalidInput", f"{key}: expected finite numbers")
    return array


def _index(given: dict[str, Any], key: str, count: int) -> int:
    value = given.get(key)
    if type(value) is not int or not 0 <= value < count:
        raise RefusedError("InvalidInput", f"{key}: expected a number from 0 to {count - 1}")
    return value


def _text(given: dict[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise RefusedError("ModelNotFound" if value is None else "InvalidInput", f"{key}: expected the name of a model")
    return value


def _not_finite(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _unknown(path: str) -> Any:
    raise RefusedError("NotFound", f"there is no '{path[:100]}' in this protocol", 404)
