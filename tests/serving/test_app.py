"""The HTTP interface without processes: routes, limits, errors, key, page."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import pickle
import re
import struct
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("litserve", reason="needs the extra `serve`")
pytest.importorskip("python_multipart", reason="needs the extra `serve`")
from starlette.testclient import TestClient

import mask_lightning
from mask_lightning.serving.answers import Answer, FaceAnswer, Info, PhotoAnswer, TaskAnswer
from mask_lightning.serving.app import Guard, Service, create_app
from mask_lightning.serving.uploads import Limits, RefusedError, Upload, open_upload

LIMITS = Limits(photos=2, photo_mb=0.05, request_mb=0.12, megapixels=0.01)
INFO = Info(
    run="2026-01-01",
    checkpoint_sha256="0" * 64,
    backbone="test_resnet",
    engine="torch",
    tasks={"mask": ["wear", "incorrect", "normal"]},
    crop="face",
    image_size=32,
    calibrated=False,
    keeps_photos=False,
    limits={"photos": 2},
)


def encode(size: tuple[int, int] = (20, 30), kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, "teal").save(stream, kind, **options)
    return stream.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size: a decompression bomb."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


async def answer(uploads: list[Upload]) -> Answer:
    """Read headers as a worker does; one face per photo."""
    photos = []
    for upload in uploads:
        open_upload(upload, LIMITS)
        task = TaskAnswer(label="wear", probability=1.0, probabilities={"wear": 1.0, "incorrect": 0.0, "normal": 0.0})
        face = FaceAnswer(box=(1, 2, 3, 4), score=0.9, landmarks=[(1.0, 2.0)] * 5, tasks={"mask": task})
        photos.append(PhotoAnswer(name=upload.name, width=20, height=30, faces=[face]))
    return Answer(photos=photos)


def service(**options: Any) -> Service:
    return Service(**{"answer": answer, "info": INFO, "ready": lambda: True, "limits": LIMITS, **options})


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(service()), raise_server_exceptions=False) as client:
        yield client


def form(*photos: tuple[str, bytes], field: str = "photos") -> dict[str, Any]:
    return {"files": [(field, photo) for photo in photos]}


def body(photos: Any) -> dict[str, Any]:
    return {"content": json.dumps({"photos": photos}), "headers": {"content-type": "application/json"}}


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def raw(content: bytes, kind: str) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": kind}}


def part(content: bytes, end: bytes = b"--b--\r\n") -> dict[str, Any]:
    return raw(b"--b\r\n" + content + end, MULTIPART)


PHOTO = encode()
MULTIPART = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (form(("a.png", PHOTO)), ["a.png"]),
        (form(("a.png", PHOTO), ("b.jpg", encode(kind="JPEG"))), ["a.png", "b.jpg"]),
        (form(("얼굴 1.webp", encode(kind="WEBP"))), ["얼굴 1.webp"]),
        (body([text(PHOTO)]), ["photo 1"]),
        (body([{"name": "c.png", "data": text(PHOTO)}, f"data:image/png;base64,{text(PHOTO)}"]), ["c.png", "photo 2"]),
    ],
)
def test_photos_are_answered_in_order(client: TestClient, request_: dict[str, Any], names: list[str]) -> None:
    response = client.post("/predict", **request_)
    assert response.status_code == 200, response.text
    photos = response.json()["photos"]
    assert [photo["name"] for photo in photos] == names
    assert photos[0]["faces"][0]["tasks"]["mask"]["probabilities"] == {"wear": 1.0, "incorrect": 0.0, "normal": 0.0}
    assert len(photos[0]["faces"][0]["landmarks"]) == 5


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({}, 415, "wrong_body"),
    "another type of body": (raw(PHOTO, "image/png"), 415, "wrong_body"),
    "a form of a page": (raw(b"a=1", "application/x-www-form-urlencoded"), 415, "wrong_body"),
    "no boundary": (raw(b"x", "multipart/form-data"), 400, "bad_request"),
    "a form that is none": (raw(b"\0\1\2", MULTIPART), 400, "bad_request"),
    "a form that ends early": (part(b"Content-Disposition: form-data\r\n", b""), 400, "no_photo"),
    "an empty form": (raw(b"--b--\r\n", MULTIPART), 400, "no_photo"),
    "a part without a name": (part(b"Content-Disposition: form-data\r\n\r\nx\r\n"), 400, "bad_request"),
    "a part with a huge header": (part(b"X: " + b"x" * 60_000 + b"\r\n\r\nx\r\n"), 400, "bad_request"),
    "another field": (form(("a.png", PHOTO), field="file"), 400, "bad_form"),
    "too many photos": (form(*[("a.png", PHOTO)] * 3), 413, "too_many_photos"),
    "far too many photos": (form(*[("a.png", PHOTO)] * 9), 400, "bad_request"),
    "an empty photo": (form(("a.png", b"")), 400, "empty_photo"),
    "a large photo": (form(("a.png", bytes(60_000))), 413, "photo_too_large"),
    "a large request": (form(("a.png", bytes(200_000))), 413, "request_too_large"),
    "folders in a name": (form(("../../etc/passwd", PHOTO)), 400, "bad_name"),
    "folders of Windows in a name": (body([{"name": "..\\..\\a.png", "data": text(PHOTO)}]), 400, "bad_name"),
    "a null in a name": (body([{"name": "a\0.png", "data": text(PHOTO)}]), 400, "bad_name"),
    "a long name": (form(("a" * 300, PHOTO)), 400, "bad_name"),
    "JSON that is none": (raw(b"{", "application/json"), 400, "bad_json"),
    "JSON without photos": (raw(b"{}", "application/json"), 400, "bad_json"),
    "deep JSON": (raw(b"[" * 50_000, "application/json"), 400, "bad_json"),
    "a large number": (raw(b'{"photos": [' + b"9" * 9_000 + b"]}", "application/json"), 400, "bad_json"),
    "an unknown key": (body([{"data": text(PHOTO), "path": "/etc/passwd"}]), 400, "bad_json"),
    "no base64": (body(["%%%"]), 400, "bad_base64"),
    "no photos in JSON": (body([]), 400, "no_photo"),
    "text": (form(("a.png", b"hello")), 415, "wrong_type"),
    "an SVG": (form(("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")), 415, "wrong_type"),
    "a TIFF, which can refer to anything": (form(("a.tif", encode(kind="TIFF"))), 415, "wrong_type"),
    "a PostScript file": (form(("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")), 415, "wrong_type"),
    "more pixels than allowed": (form(("a.png", encode((200, 200)))), 413, "too_many_pixels"),
    "a decompression bomb": (form(("a.png", png_that_claims(50_000, 50_000))), 413, "too_many_pixels"),
    "a header cut short": (form(("a.png", PHOTO[:20])), 422, "damaged_photo"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_other_requests_are_refused_with_a_reason(
    client: TestClient, request_: dict[str, Any], status: int, code: str
) -> None:
    response = client.post("/predict", **request_)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), error
    assert error["message"]
    assert len(error["message"].splitlines()) == 1
    assert "/etc" not in error["message"] or "expected" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/../../etc/passwd", {}, 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", {}, 404),
        ("GET", "/docs", {}, 404),
        ("GET", "/predict", {}, 405),
        ("POST", "/info", {}, 405),
        ("OPTIONS", "/predict", {"origin": "http://else.example", "access-control-request-method": "POST"}, 405),
        ("GET", "/info", {"x-much": "x" * 20_000}, 431),
        ("POST", "/predict", {"content-length": "9" * 30}, 413),
        ("POST", "/predict", {"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_other_paths_and_headers_are_errors(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = client.request(method, path, headers=headers)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message"}
    assert "access-control-allow-origin" not in response.headers


def test_a_body_without_a_length_ends_at_the_limit(client: TestClient) -> None:
    read = []

    def parts() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a"\r\n\r\n'
        for _ in range(100):
            read.append(1)
            yield bytes(10_000)

    response = client.post("/predict", content=parts(), headers={"content-type": MULTIPART})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_a_slow_body_is_refused() -> None:
    async def ask() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(5)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
        await create_app(service(timeout=0.05))(scope, receive, send)
        return sent

    sent = asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "slow"


def test_requests_beyond_the_limit_are_refused_at_once() -> None:
    busy = service(max_waiting=1)
    with TestClient(create_app(busy)) as client:
        with busy.taking_part():
            response = client.post("/predict", **form(("a.png", PHOTO)))
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert client.post("/predict", **form(("a.png", b""))).status_code == 400
        assert client.post("/predict", **form(("a.png", PHOTO))).status_code == 200  # errors leave nothing behind
    assert busy.waiting == 0


def test_an_unexpected_error_is_an_answer_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: list[Upload]) -> Answer:
        raise ZeroDivisionError("secret")

    with TestClient(create_app(service(answer=fail)), raise_server_exceptions=False) as client:
        response = client.post("/predict", **form(("a.png", PHOTO)))
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        (None, "/info", 401),
        ("wrong", "/info", 401),
        ("ключ".encode(), "/info", 401),
        ("right", "/info", 200),
        (None, "/predict", 401),
        (None, "/health", 200),
        (None, "/", 200),
    ],
)
def test_a_key_protects_all_but_health_and_the_page(key: Any, path: str, status: int) -> None:
    with TestClient(create_app(service(api_key="right"))) as client:
        method = "POST" if path == "/predict" else "GET"
        response = client.request(method, path, headers={} if key is None else {"X-API-Key": key})
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["code"] == "bad_key"


def test_health_tells_whether_a_worker_is_ready() -> None:
    answers = []
    for ready in (True, False):
        with TestClient(create_app(service(ready=lambda ready=ready: ready))) as client:
            response = client.get("/health")
            answers.append((response.status_code, response.json()["status"]))
    assert answers == [(200, "ok"), (503, "starting")]


def test_info_describes_the_network(client: TestClient) -> None:
    found = client.get("/info").json()
    assert found["tasks"] == {"mask": ["wear", "incorrect", "normal"]}
    assert (found["crop"], found["run"], found["version"]) == ("face", "2026-01-01", mask_lightning.__version__)


def test_openapi_describes_both_bodies_and_the_answer(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Answer")
    assert predict["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")


def test_no_other_host_is_contacted(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "connect-src 'self'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    hosts = re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", response.text)
    assert set(hosts) == {"http://www.w3.org"}  # the name of SVG's elements


class Elements(HTMLParser):
    """Collect the tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_can_be_used_with_a_keyboard_and_a_screen_reader() -> None:
    page = files("mask_lightning.serving").joinpath("page.html").read_text(encoding="utf-8")
    elements = Elements(page).found
    labelled = {attrs.get("for") for tag, attrs in elements if tag == "label"}
    named = {attrs["id"] for tag, attrs in elements if tag == "input"} - {"files"}  # inside its label
    assert named <= labelled
    assert all(tag in ("button", "input", "label") for tag, attrs in elements if "onclick" in attrs)
    assert ("html", {"lang": "en"}) in elements
    assert any(attrs.get("aria-live") == "polite" for _, attrs in elements)
    assert "tabindex" not in page
    assert "innerHTML" not in page  # names of files are no markup
    assert "prefers-color-scheme: dark" in page
    assert "Do not use this to judge individuals" in page


def test_only_http_passes_through_the_guard() -> None:
    passed = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    asyncio.run(Guard(app, max_bytes=1)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert passed == ["lifespan"]


def test_refused_requests_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(RefusedError(413, "code", "message")))
    assert (error.status, error.code, error.message) == (413, "code", "message")


def test_noise_is_refused_and_never_an_internal_error(client: TestClient) -> None:
    rng = np.random.default_rng(0)
    whole = encode(kind="JPEG") + encode(kind="WEBP") + PHOTO
    for _ in range(40):
        content = bytearray(whole[: rng.integers(1, len(whole))])
        content[rng.integers(len(content))] = rng.integers(256)
        status = client.post("/predict", **form(("a", bytes(content)))).status_code
        assert status == 200 or 400 <= status < 500
