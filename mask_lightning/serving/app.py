"""The HTTP interface: routes, limits on a request, errors as JSON, headers, and the web page.

It knows nothing of processes: `create_app` takes a function that answers photos, so that tests need no server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import mask_lightning
from mask_lightning.errors import one_line
from mask_lightning.serving.answers import Answer, Info
from mask_lightning.serving.uploads import Limits, RefusedError, Upload, check_name, check_uploads, decode_base64

log = logging.getLogger(__name__)

FIELD = "photos"  # of a form, and of a JSON body
KEY_HEADER = "X-API-Key"
MAX_HEADER_BYTES = 16_384
MAX_OTHER_FIELDS = 8  # fields of a form that are no files; they are ignored by browsers' forms, and refused here
NO_OTHER_HOST = (  # the page contains its style and script
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": NO_OTHER_HOST.encode(),
    b"permissions-policy": b"camera=(self), microphone=(), geolocation=()",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
}

Answering = Callable[[list[Upload]], Awaitable[Answer]]


class PhotoBody(BaseModel):
    """A photo in a JSON body."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(description="the file's bytes as base64; data:image/...;base64, may precede it")
    name: str | None = Field(None, description="file name, which the answer repeats")


class PredictBody(BaseModel):
    """JSON body of POST /predict."""

    model_config = ConfigDict(extra="forbid")

    photos: list[PhotoBody | str] = Field(description="photos, or only their data")


class ErrorDetail(BaseModel):
    """Cause of an error."""

    code: str = Field(description="short name of the cause, for programs")
    message: str = Field(description="what was expected, what was found and what to do")


class ErrorAnswer(BaseModel):
    """Answer to a request that is refused."""

    error: ErrorDetail


BODY = {  # of POST /predict, for openapi.json
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "application/json": {"schema": PredictBody.model_json_schema()},
    },
}


@dataclass
class Service:
    """Functions and limits that the routes use.

    Attributes:
        answer: predicts the photos of a request; raises RefusedError.
        info: description of the network.
        ready: True if requests can be answered.
        limits: of a request.
        api_key: value of the header X-API-Key that /predict and /info require; None: none.
        max_waiting: requests at once.
        timeout: seconds within which a request's body must arrive.
    """

    answer: Answering
    info: Info
    ready: Callable[[], bool]
    limits: Limits = field(default_factory=Limits)
    api_key: str | None = None
    max_waiting: int = 64
    timeout: float = 30.0
    waiting: int = 0

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """Count a request for the block. Raises RefusedError (429) if there are too many: memory is limited, too."""
        if self.waiting >= self.max_waiting:
            raise RefusedError(
                429, "busy", f"expected at most {self.max_waiting} requests at once, found more; try again in a second"
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(service: Service, lifespan: Lifespan | None = None) -> FastAPI:
    """Return the application with all routes.

    Args:
        service: what answers.
        lifespan: entered at the start and left at the end.
    """
    app = FastAPI(
        title="mask_lightning",
        version=mask_lightning.__version__,
        description=f"Predicts {', '.join(service.info.tasks)} of the faces in photos. Not for judging individuals.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
    )
    page = files("mask_lightning.serving").joinpath("page.html").read_text(encoding="utf-8")
    errors: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}

    async def check_key(request: Request) -> None:
        _check_key(request, service.api_key)

    async def show_page() -> HTMLResponse:
        return HTMLResponse(page)

    async def icon() -> Response:
        return Response(status_code=204)

    async def health() -> JSONResponse:
        """Tell whether photos can be predicted; needs no key."""
        ready = service.ready()
        return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)

    async def info() -> Info:
        """Describe the network: tasks, classes, preprocessing, limits."""
        return service.info

    async def predict(request: Request) -> Answer:
        """Predict the faces of one or several photos, in order."""
        _refuse_other_sites(request)
        with service.taking_part():
            uploads = await read_uploads(request, service.limits, service.timeout)
            return await service.answer(uploads)

    keyed: dict[str, Any] = {"dependencies": [Depends(check_key)], "responses": errors}
    app.add_api_route("/", show_page, include_in_schema=False)
    app.add_api_route("/favicon.ico", icon, include_in_schema=False)
    app.add_api_route("/health", health, responses={503: {"description": "no worker is ready"}})
    app.add_api_route("/info", info, response_model=Info, **keyed)
    app.add_api_route(
        "/predict", predict, methods=["POST"], response_model=Answer, openapi_extra={"requestBody": BODY}, **keyed
    )
    _add_error_handlers(app)
    app.add_middleware(Guard, max_bytes=service.limits.request_bytes)
    return app


def _check_key(request: Request, expected: str | None) -> None:
    given = request.headers.get(KEY_HEADER, "")
    if expected is not None and not secrets.compare_digest(given.encode(), expected.encode()):
        found = "another" if given else "none"
        raise RefusedError(
            401, "bad_key", f"expected the server's key in the header {KEY_HEADER}, found {found}; send it"
        )


def _refuse_other_sites(request: Request) -> None:
    """Refuse requests that a browser sends for the page of another site."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise RefusedError(
            403, "other_site", "expected a request of this server's page, found another site's; open / here"
        )


async def read_uploads(request: Request, limits: Limits, timeout: float) -> list[Upload]:
    """Read and check the photos of a request, in a form or as JSON.

    Raises:
        RefusedError: the body is of another type (status 415), malformed or cut off (400), beyond a limit (413) or too
            slow (408).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(timeout):
            if kind == "multipart/form-data":
                uploads = await _read_form(request, limits)
            elif kind == "application/json":
                uploads = _read_json(await request.body())
            else:
                found = one_line(repr(kind), most=80) if kind else "none"
                raise RefusedError(
                    415,
                    "wrong_body",
                    f"expected multipart/form-data or application/json, found {found}; see /openapi.json",
                )
    except TimeoutError:
        raise RefusedError(408, "slow", f"expected the photos within {timeout:g} s; send fewer at once") from None
    except ClientDisconnect:  # nobody reads the answer, but the log stays free of tracebacks
        raise RefusedError(400, "cut_off", "expected a whole body, found the end of the connection; repeat") from None
    check_uploads(uploads, limits)
    return uploads


async def _read_form(request: Request, limits: Limits) -> list[Upload]:
    form = request.form(max_files=limits.photos + 1, max_fields=MAX_OTHER_FIELDS)
    uploads: list[Upload] = []
    try:
        async with form as fields:
            for name, value in fields.multi_items():
                if name != FIELD or not isinstance(value, UploadFile):
                    shown = one_line(repr(name), most=80)
                    raise RefusedError(
                        400, "bad_form", f'expected files in the field "{FIELD}", found {shown}; rename it'
                    )
                uploads.append(Upload(check_name(value.filename, len(uploads)), await value.read()))
    except FormParserError as error:  # newer versions of starlette answer it themselves
        raise RefusedError(
            400, "bad_request", f"expected a form, found another body ({one_line(str(error))})"
        ) from None
    return uploads


def _read_json(content: bytes) -> list[Upload]:
    try:
        body = PredictBody.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:2])
        message = one_line(f"{where}: {first['msg']}" if where else first["msg"], most=200)
        raise RefusedError(
            400, "bad_json", f'expected {{"{FIELD}": [{{"name": ..., "data": base64}}]}}, found {message}; correct it'
        ) from None
    photos = [PhotoBody(data=each) if isinstance(each, str) else each for each in body.photos]
    names = [check_name(photo.name, i) for i, photo in enumerate(photos)]
    return [Upload(name, decode_base64(photo.data, name)) for name, photo in zip(names, photos, strict=True)]


def error_response(status: int, code: str, message: str) -> JSONResponse:
    """Return an error as JSON."""
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=headers)


def _add_error_handlers(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        return error_response(error.status, error.code, error.message)

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "wrong_method", 400: "bad_request"}.get(error.status_code, "error")
        return error_response(error.status_code, code, one_line(str(error.detail), most=300))

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return error_response(500, "internal", "the server failed; its log has the cause")

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


class Guard:
    """ASGI middleware: limits the bytes of headers and body, and adds headers for browsers to every response.

    Args:
        app: the application.
        max_bytes: of a request's body. A larger Content-Length is refused before the body is read; without one,
            reading ends at the limit.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._too_large()
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in HEADERS.items() if name not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            self._check_headers(scope)
        except RefusedError as error:
            response = error_response(error.status, error.code, error.message)
            response.headers["connection"] = "close"  # the body is not read
            await response(scope, receive, with_headers)
            return
        await self.app(scope, limited, with_headers)

    def _check_headers(self, scope: Scope) -> None:
        size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope.get("raw_path") or b"")
        if size > MAX_HEADER_BYTES:
            raise RefusedError(
                431,
                "headers_too_large",
                f"expected at most {MAX_HEADER_BYTES} bytes of headers, found {size}; send less",
            )
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not length.isdigit() or int(length[:20]) > self.max_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413,
            "request_too_large",
            f"expected at most {self.max_bytes / 1e6:g} MB per request, found more; send fewer photos at once",
        )
