"""`msvae serve`: a run's or a study's models, for programs of others."""

from __future__ import annotations

import ipaddress
import secrets
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from msvae.cli.parameters import Trust
from msvae.cli.printing import say
from msvae.dispatch import world
from msvae.errors import StudyError

__all__ = ["serve"]


def serve(
    target: Annotated[Path, typer.Argument(help="a run's directory, or a study's TOML file")],
    host: Annotated[
        str, typer.Option(help="address to listen on; others than this machine's own get a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one", min=0, max=65535)] = 4242,
    trust: Trust = False,
) -> None:
    """Offer head, decoder and solver of a run, or the solver of a study, to UM-Bridge clients, until Ctrl-C."""
    from msvae.serve.models import models_of
    from msvae.serve.server import Server

    if world.rank() > 0:
        return
    models = models_of(target, trust=trust)
    token = "" if _is_own(host) else secrets.token_urlsafe(16)
    try:
        server = Server((host, port), models, token)
    except (OSError, OverflowError) as error:
        raise StudyError(f"--host {host} --port {port}: {error}; take another one, --port 0 for a free one") from None
    console = Console(soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a job that a script starts with &
        signal.signal(number, signal.default_int_handler)
    with server:
        try:
            for model in models.values():
                say(console, str(model))
            say(console, f"serving at {server.url} (UM-Bridge protocol 1.0); Ctrl-C ends it")
            server.serve_forever()
        except KeyboardInterrupt:
            say(console, "ended")


def _is_own(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
