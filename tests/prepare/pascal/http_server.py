"""An HTTP server that continues where a download broke off, and breaks connections on request."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server(ThreadingHTTPServer):
    """Serves ``files`` by their names.

    It closes the connection after byte ``cut``, and answers requests for a range unless ``ranges`` is False;
    ``ranges_requested`` collects the ranges of all requests.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.cut: int | None = None
        self.ranges = True
        self.ranges_requested: list[str | None] = []

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/{name}"


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[Server]:
    """A server in a thread of its own; no proxy stands before it."""
    with Server(files) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        byte_range = self.headers["Range"]
        self.server.ranges_requested.append(byte_range)
        data = self.server.files.get(self.path.rsplit("/", 1)[-1])
        start = int(re.findall(r"bytes=(\d+)-", byte_range)[0]) if byte_range and self.server.ranges else 0
        if data is None:
            self.send_error(404)
        elif start >= len(data):
            self.send_error(416)
        else:
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
