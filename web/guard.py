"""Who is answered: browsers of this machine on the page itself, no other site's page; and nothing from other hosts."""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The name under which a browser reached the page. Another site's name may lead here too (DNS rebinding).
_OWN_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_READING = ("GET", "HEAD")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests that are not the page's own (403), and adds to every answer what the page may load."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette's middleware."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = _refusal(scope["method"], scope["path"], Headers(scope=scope))
        app = self._app if reason is None else JSONResponse({"error": reason}, status_code=403)
        await app(scope, receive, send_with_headers)


def _refusal(method: str, path: str, headers: Headers) -> str | None:
    host = headers.get("host", "")
    if not _OWN_HOST.fullmatch(host):
        return "this page is for this machine alone; open it as http://localhost or http://127.0.0.1"
    # Following a link from elsewhere to the page is fine; nothing else from there is.
    if path != "/" and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return "another site asked for this"
    if method not in _READING and headers.get("origin") != f"http://{host}":
        return "another site asked for this"
    return None
