"""Requests that a server must refuse: damaged photos, decompression bombs, wrong types, large headers, other paths.

    python tests/chaos/hostile_requests.py PORT [--requests 1000] [--seed 0]

Prints how often each status was the answer. Each request is a pure function of the seed and its number.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

from PIL import Image

BOUNDARY = "a-boundary"


def photo(rng: random.Random, kind: str) -> bytes:
    """Return a small photo with random pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (24, 24), rng.randbytes(24 * 24 * 3)).save(file, kind)
    return file.getvalue()


def png_header(width: int, height: int, content: bytes = b"") -> bytes:
    """Return a PNG whose header promises a size that its content need not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def multipart(content: bytes, name: str = "a.jpg", field: str = "photos", kind: str = "image/jpeg") -> bytes:
    """Return a multipart form with one file."""
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
    head = "\r\n".join([f"--{BOUNDARY}", disposition, f"Content-Type: {kind}", "", ""])
    return head.encode("utf-8", "surrogateescape") + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def raw(method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of an HTTP request; a Content-Length among the headers replaces the right one."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
JSON = "Content-Type: application/json"


def _truncated(rng: random.Random) -> bytes:
    content = photo(rng, rng.choice(["JPEG", "PNG", "WEBP", "BMP", "GIF"]))
    return raw("POST", "/predict", multipart(content[: rng.randrange(0, len(content) // 2)]), (FORM,))


def _bomb(rng: random.Random) -> bytes:
    side = rng.choice([20_000, 60_000, 2**31 - 1, 0])
    content = zlib.compress(bytes(rng.choice([10, 1_000_000])))
    return raw("POST", "/predict", multipart(png_header(side, side, content), "bomb.png"), (FORM,))


def _wrong_type(rng: random.Random) -> bytes:
    content = rng.choice(
        [b"%PDF-1.4", b"PK\x03\x04", b"<svg/>", b"\x7fELF", b"GIF89a", b"RIFF0000WEBP", b"\xff\xd8\xff"]
    )
    return raw("POST", "/predict", multipart(content + rng.randbytes(rng.randrange(200))), (FORM,))


def _wrong_body(rng: random.Random) -> bytes:
    values = [
        "",
        "{",
        "null",
        "[]",
        "1e999",
        '"x"',
        "[" * 5000,
        '{"photos": {}}',
        '{"photos": [1]}',
        '{"photos": [null]}',
    ]
    values += ['{"photos": ["%%%"]}', '{"photos": "x"}', '{"photo": []}', '{"photos": []}', '{"photos": ["data:,"]}']
    values.append(json.dumps({"photos": [base64.b64encode(rng.randbytes(50)).decode()]}))
    values.append(json.dumps({"photos": ["AAAA"] * 500}))
    return raw("POST", "/predict", rng.choice(values).encode(), (JSON,))


def _not_unicode(rng: random.Random) -> bytes:
    return raw("POST", "/predict", b'{"photos": ["' + rng.randbytes(30) + b'"]}', (JSON,))


def _wrong_kind(rng: random.Random) -> bytes:
    kinds = [
        "text/plain",
        "image/jpeg",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "\x01",
        "a/b;c=" * 9,
    ]
    return raw("POST", "/predict", photo(rng, "JPEG"), (f"Content-Type: {rng.choice(kinds)}",))


def _wrong_form(rng: random.Random) -> bytes:
    good = multipart(photo(rng, "JPEG"))
    bodies = [
        good.replace(BOUNDARY.encode(), b"other"),
        b"",
        b"--",
        multipart(b""),
        multipart(photo(rng, "JPEG"), field="x"),
    ]
    bodies.append(
        b"".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f{i}"\r\n\r\n\r\n'.encode() for i in range(3000)
        )
    )
    return raw("POST", "/predict", rng.choice(bodies), (FORM,))


def _large_header(rng: random.Random) -> bytes:
    return raw("POST", "/predict", b"{}", (JSON, f"X-Large: {'x' * rng.choice([20_000, 70_000, 500_000])}"))


def _many_headers(rng: random.Random) -> bytes:
    return raw("GET", "/none", headers=tuple(f"X-{i}: {rng.random()}" for i in range(rng.choice([300, 3000]))))


def _other_path(rng: random.Random) -> bytes:
    paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../x",
        "//etc/passwd",
        "/predict/../../x",
        "/%00",
    ]
    paths += ["/" + "a" * 5000, "/predict?x=" + "%ff" * 900, "/docs/../..%5c..%5cwindows", "/internal", "/.env"]
    return raw("GET", rng.choice(paths))


def _bad_name(rng: random.Random) -> bytes:
    names = ["../../evil.jpg", "/etc/passwd", "..\\x.jpg", "a\x00b.jpg", "n" * 5000, ".", "..", "a\x7f.jpg"]
    return raw("POST", "/predict", multipart(photo(rng, "JPEG"), rng.choice(names)), (FORM,))


def _wrong_method(rng: random.Random) -> bytes:
    return raw(rng.choice(["PUT", "DELETE", "PATCH", "TRACE", "FOO"]), rng.choice(["/predict", "/health", "/info"]))


def _wrong_length(rng: random.Random) -> bytes:
    length = rng.choice(["-1", "x", "99999999999999999999", "48000001", "1e3", "0x10"])
    return raw("POST", "/predict", b"{}", (JSON, f"Content-Length: {length}"))


def _wrong_chunks(rng: random.Random) -> bytes:
    body = rng.choice([b"zz\r\nabc\r\n", b"-1\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n"])
    return raw("POST", "/predict", body, (JSON, "Transfer-Encoding: chunked"))


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(_truncated, _bomb, _wrong_type, _wrong_body, _not_unicode, _wrong_kind, _wrong_form, _large_header),
    *(_many_headers, _other_path, _bad_name, _wrong_method, _wrong_length, _wrong_chunks),
)


def hostile_requests(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a kind and the bytes of a request, all kinds in turn."""
    for i in range(count):
        make = KINDS[i % len(KINDS)]
        yield make.__name__.strip("_"), make(random.Random(seed * 1_000_003 + i))


def status_of(port: int, request: bytes, timeout: float = 20) -> int | str:
    """Send bytes and return the status of the answer; `closed` if the server ends the connection without one."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(request)
            while b"\r\n" not in answer and (part := connection.recv(4096)):
                answer += part
    except (BrokenPipeError, ConnectionResetError):  # refused before the end of the body
        pass
    except TimeoutError:
        return "timeout"
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else "closed"


def main() -> None:
    """Send the requests, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: Counter[tuple[str, int | str]] = Counter()
    for kind, request in hostile_requests(args.requests, args.seed):
        found[kind, status_of(args.port, request)] += 1
    for (kind, status), count in sorted(found.items(), key=str):
        print(f"{kind:15} {status:>8} {count:5}")


if __name__ == "__main__":
    main()
