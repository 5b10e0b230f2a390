"""The console's process: one HTTP server that ends when it is told to."""

import socket
import ssl
import threading

import uvicorn
from fastapi import FastAPI

from daemon.bootstrap import House
from daemon.dimse.tls import server_context
from daemon.domain.trust import ServerTls
from daemon.errors import FatalError
from daemon.runtime import POLL_SECONDS, loaded
from daemon.web.app import create_app
from daemon.web.console import Console
from daemon.web.prompt import Prompt

_GRACE_SECONDS = 5
_MOST_CONNECTIONS = 200


def serve(house: House, stop: threading.Event) -> None:
    """Answer until `stop`.

    Raises:
        FatalError: the address cannot be listened on, the certificate cannot be read, or the server ended by itself.
    """
    section = house.settings.web
    context = _context(house) if section.tls else None
    # First, so that one that cannot listen leaves alone what belongs to the one that does.
    with _bound(section.host, section.port) as listening:
        app = create_app(house)
        console: Console = app.state.console
        server = uvicorn.Server(_configured(house, app, context))
        # In a thread, so that signals stay ours.
        loaded()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="web")
        thread.start()
        while thread.is_alive() and not stop.wait(POLL_SECONDS):
            pass
        server.should_exit = True
        # First, so that nobody waits for what it reads.
        console.desk.close()
        thread.join()
    if not stop.is_set():
        raise FatalError("the console's server ended by itself; the log says why")


def _configured(house: House, app: FastAPI, context: ssl.SSLContext | None) -> uvicorn.Config:
    proxy = house.settings.web.proxy
    return uvicorn.Config(
        app,
        http=Prompt,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or None,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_context_factory=None if context is None else lambda *_: context,
    )


def _context(house: House) -> ssl.SSLContext:
    return server_context(ServerTls(credentials=house.settings.tls.credentials, client_certificates=False, proofs=()))


def _bound(host: str, port: int) -> socket.socket:
    try:
        made = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections have it from here. asyncio would not set it for a socket that does not name its protocol, and
        # each answer would wait 40 ms for the acknowledgement of its head.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise FatalError(
            f"the console cannot listen on {host}:{port} ({error.strerror}); correct web.host and web.port, or end "
            "what listens there"
        ) from error
    return made
