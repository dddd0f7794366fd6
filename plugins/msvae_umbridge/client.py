"""Questions to a server of the protocol 1.0 of UM-Bridge, with the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from msvae import MsvaeError

__all__ = ["Client", "ServerError", "UnreachableError"]

LARGEST = 1 << 30  # bytes of an answer


class ServerError(MsvaeError):
    """A server has answered that it has no result, and why."""


class UnreachableError(MsvaeError):
    """A server does not answer."""


@dataclass(frozen=True)
class Client:
    """A model at a server. url: of the server. timeout: s for an answer."""

    url: str
    model: str
    timeout: float

    def asked(self, feature: str, **given: Any) -> dict[str, Any]:
        """Return a server's answer; ServerError if it has none, UnreachableError if there is no such server."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        body = json.dumps({"name": self.model, **given}, allow_nan=False)
        try:
            connection.request(
                "POST", f"{parts.path.rstrip('/')}/{feature}", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            data = answer.read(LARGEST + 1)
        except TimeoutError:
            raise ServerError(f"{self.url} has not answered for {self.timeout:g} s: allow a longer timeout") from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.url} cannot be reached: {error or type(error).__name__}") from None
        finally:
            connection.close()
        return self._read(data, answer.status)

    def _read(self, data: bytes, status: int) -> dict[str, Any]:
        if len(data) > LARGEST:
            raise ServerError(f"{self.url} answered with more than {LARGEST} bytes")
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            raise ServerError(f"{self.url} answered with no JSON (HTTP {status}): {data[:100]!r}") from None
        if not isinstance(answer, Mapping):
            raise ServerError(f"{self.url} answered with no JSON object: {data[:100]!r}")
        error = answer.get("error")
        if error is not None:
            kind, text = (error.get(k) for k in ("type", "message")) if isinstance(error, Mapping) else ("error", error)
            raise ServerError(f"{self.url}: {kind}: {str(text)[:1000]}")
        return dict(answer)
