"""The server of the page: sessions by their cookie, limits, mistakes as a line, and its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from util.errors import Terminated, UserError, mistake_of
from util.logging import logger
from web.actions import Question, name_of, questions
from web.choices import Choices
from web.guard import Guard
from web.sessions import Sessions
from web.worker import DEFECT, Worker

_PAGE = Path(__file__).with_name("page")
_FORGET_EVERY = 60.0  # seconds


def serve(listening: socket.socket, folder: Path, choices: Choices, worker: Worker) -> None:
    """Answer the page until Ctrl-C, which ends with a line; sessions are kept in ``folder``. Raises ``UserError``."""
    worker.load_first()
    port = listening.getsockname()[1]
    app = application(Sessions(folder), choices, worker, cookie=f"unsupfss_{port}")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=2
    )
    logger.info("open http://localhost:%d in a browser; Ctrl-C ends it and deletes what was given", port)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt as stop:
        farewell = "the page is closed; photographs and masks in it are deleted"
        raise (Terminated if isinstance(stop, Terminated) else KeyboardInterrupt)(farewell) from None


def application(sessions: Sessions, choices: Choices, worker: Worker, *, cookie: str) -> Starlette:
    """The page and what it asks. ``cookie`` names the session in a browser, which shares cookies among all ports."""

    @asynccontextmanager
    async def forgetting(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_forget_idle(sessions))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    routes = [
        Route("/", lambda _: FileResponse(_PAGE / "index.html")),
        Mount("/page", StaticFiles(directory=_PAGE)),
        *(
            Route(each.path, _endpoint(each, sessions, cookie), methods=[each.method])
            for each in questions(choices, worker)
        ),
    ]
    handlers = {Exception: _defect, HTTPException: _unknown}
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=handlers, lifespan=forgetting)


def _endpoint(question: Question, sessions: Sessions, cookie: str) -> Callable[[Request], object]:
    """Answer in a thread, in the browser's session; a mistake becomes ``{"error": line}``."""

    async def endpoint(request: Request) -> Response:
        body = await _read(request, question.most_bytes)
        key, response = await run_in_threadpool(in_session, request, body)
        if key is not None:
            response.set_cookie(cookie, key, httponly=True, samesite="strict")
        return response

    def in_session(request: Request, body: bytes | None) -> tuple[str | None, Response]:
        key = None
        try:
            if body is None:
                most = f"{question.most_bytes >> 20} MB"
                raise UserError(f"{name_of(request) or 'what was sent'}: at most {most} are taken; make it smaller")
            with sessions.opened(request.cookies.get(cookie)) as (key, session):
                return key, question.action(session, request, body)
        except (UserError, OSError) as error:
            mistake = mistake_of(error)
            if mistake is None:
                raise
            return key, JSONResponse({"error": str(mistake)}, status_code=400)

    return endpoint


async def _read(request: Request, most_bytes: int) -> bytes | None:
    """What a request brings; None if it is too much, after all of it: a browser reads no answer before."""
    body, size = bytearray(), 0
    async for block in request.stream():
        size += len(block)
        if size <= most_bytes:
            body += block
    return bytes(body) if size <= most_bytes else None


async def _forget_idle(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(_FORGET_EVERY)
        await run_in_threadpool(sessions.forget_idle)


def _unknown(_: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 404
    return JSONResponse({"error": "nothing here; reload the page"}, status_code=code)


def _defect(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": DEFECT}, status_code=500)
