"""The way into the console: everything below /console.

1  the request comes from a page of ours, if it may change anything (`security.check_origin`)
2  its body is here, and bounded
3  a page, or a part of one, by its path; each asks who is signed in
4  the headers that hold for all of them

A page that is asked for under another name of the broker's is answered with where it is: cookies and passkeys are for
one name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from percall_broker.asgi import read_first
from percall_broker.console import rendering, security
from percall_broker.console.asking import Pages
from percall_broker.console.pages import (
    approvals,
    calls,
    changes,
    health,
    live,
    overview,
    passkeys,
    people,
    policies,
    servers,
    sign_in,
)
from percall_broker.crypto import passkeys as passkeys_library
from percall_broker.listening import host_names
from percall_broker.model.errors import BrokerError, InvalidInput, NotFound, Unauthenticated

if TYPE_CHECKING:
    from percall_broker.asgi import Door, ErrorAnswers, Message, Receive, Send
    from percall_broker.compose import Broker

PATH = "/console"
_MAX_BYTES = 64 * 1024


class ConsoleDoor:
    """Everything below /console."""

    def __init__(self, broker: Broker, errors: ErrorAnswers) -> None:
        self._pages = Pages(broker)
        self._errors = errors
        self._has_passkeys = False
        self._names = host_names(self._pages.origin)
        inside: Any = self._application()  # its types are wider than an ASGI server's messages
        self._inside: Door = read_first(inside, _MAX_BYTES)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                keeping = [] if b"cache-control" in own else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *security.HEADERS, *keeping]}
            await send(message)

        if scope["method"] == "GET" and not self._is_own_name(scope):
            query = "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
            moved: Any = RedirectResponse(self._pages.origin + quote(scope["path"]) + query)
            await moved(scope, receive, guarded)
            return
        try:
            security.check_origin(scope, self._pages.origin)  # 1
            if scope["method"] == "POST" and not self._has_passkeys:
                await asyncio.to_thread(passkeys_library.load)
                self._has_passkeys = True
            await self._inside(scope, receive, guarded)  # 2, 3, 4
        except BrokerError as error:
            answer: Any = self._refusal(error, scope)
            await answer(scope, receive, guarded)

    def _is_own_name(self, scope: Message) -> bool:
        """Whether the request names the console's own host; it names one of the broker's, which has been checked."""
        name = next(value for name, value in scope["headers"] if name == b"host").decode("latin-1").lower()
        return name.encode("latin-1") in self._names

    def _application(self) -> FastAPI:
        application = FastAPI(
            title="Percall console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
        )

        @application.exception_handler(BrokerError)
        async def refuse(request: Request, error: BrokerError) -> Response:
            return self._refusal(error, dict(request.scope))

        @application.exception_handler(RequestValidationError)
        async def invalid(request: Request, _error: RequestValidationError) -> Response:
            return await refuse(request, InvalidInput("request.form", "The address or form is not as it must be."))

        @application.exception_handler(404)
        @application.exception_handler(405)
        async def nothing(request: Request, _error: Exception) -> Response:
            return await refuse(request, NotFound("request.path", "There is no such page."))

        @application.exception_handler(HTTPException)
        async def unread(request: Request, _error: HTTPException) -> Response:
            return await refuse(request, InvalidInput("request.form", "The request cannot be read."))

        @application.exception_handler(Exception)
        async def failed(request: Request, _error: Exception) -> Response:
            # What failed goes on to the outermost edge, which logs it; a person gets a page.
            return await refuse(request, BrokerError("broker.failed", "The broker failed to answer this."))

        routes = APIRouter(prefix=PATH)

        @routes.get("")
        async def home() -> Response:
            return RedirectResponse(PATH + "/")

        @routes.get("/static/{name}")
        async def static(name: str) -> Response:
            if name not in rendering.FILES:
                raise NotFound("request.path", "There is no such file.")
            kind, content = rendering.FILES[name]
            # Its path changes with it, and it holds nothing of anybody's.
            headers = {"cache-control": "public, max-age=31536000, immutable", "content-type": kind}
            return Response(content, headers=headers)

        for module in (sign_in, passkeys, changes, live, overview, calls, approvals, people, servers, policies, health):
            routes.include_router(module.router(self._pages))
        application.include_router(routes)
        return application

    def _refusal(self, error: BrokerError, scope: Message) -> Response:
        """An error: JSON for our script, a part for a part of a page, a page for a person."""
        status, headers, body = self._errors.of(error)
        names = {name: value for name, value in scope["headers"]}  # noqa: C416 - the last of each is enough here
        if names.get(b"accept", b"").startswith(b"application/json"):
            return Response(body, status, {name.decode(): value.decode() for name, value in headers})
        # Of a 401 our script makes the sign-in page, which would not fit where the part goes.
        if b"hx-request" in names:
            return HTMLResponse(rendering.page("part_error.html", error=error), status)
        is_stranger = isinstance(error, Unauthenticated)
        name = "sign_in.html" if is_stranger else "error.html"
        context: dict[str, Any] = {"error": error}
        if is_stranger:
            context |= sign_in.context(self._pages)
        # A page of ours that asks again brings the session that there may be.
        again = {"Refresh": "0"} if is_stranger and security.is_led_here(scope) else {}
        return HTMLResponse(rendering.page(name, **context), status, again)
