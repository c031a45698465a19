"""Files in S3 and their local copies, against a real server that may be slow, lose connections or disappear."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="needs the extra `packed`")
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from s3_server import Proxy, serving, use

from mask_lightning.data import s3
from mask_lightning.data.s3 import Bucket, DamagedError, FileFacts, LocalCopies, hash_file, is_transient
from mask_lightning.errors import PackedError

CONTENT = {f"chunk-{i}.bin": bytes([i]) * 10_000 for i in range(6)}
FACTS = {name: FileFacts(len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENT.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket" / "faces").mkdir(parents=True)
    (root / "bucket" / "empty").mkdir()
    for name, content in CONTENT.items():
        (root / "bucket" / "faces" / name).write_bytes(content)
    with serving(root) as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server that Bucket finds, and short pauses."""
    before = Proxy(server)
    use(monkeypatch, before.port)
    monkeypatch.setattr(s3, "FIRST_WAIT", 0.01)
    yield before
    before.close()


@pytest.fixture
def copies(proxy: Proxy, tmp_path: Path) -> LocalCopies:
    return LocalCopies(Bucket("s3://bucket/faces"), tmp_path, FACTS, limit=35_000)


def refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (ReadTimeoutError(endpoint_url="http://x"), True),
        (DamagedError(), True),
        (refused("InternalError", 500), True),
        (refused("SlowDown", 503), True),
        (refused("TooManyRequests", 429), True),
        (refused("RequestTimeout", 400), True),
        (refused("NoSuchKey", 404), False),
        (refused("AccessDenied", 403), False),
        (NoCredentialsError(), False),
    ],
)
def test_only_errors_that_may_vanish_are_repeated(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.mark.parametrize("address", ["s3://", "s3:///faces"])
def test_an_address_needs_a_bucket(address: str) -> None:
    with pytest.raises(PackedError, match="name the bucket"):
        Bucket(address)


@pytest.mark.slow
def test_files_are_written_and_read(proxy: Proxy, tmp_path: Path) -> None:
    bucket = Bucket("s3://bucket/new/")
    assert bucket.is_empty()
    (tmp_path / "file").write_bytes(b"abc" * 100)
    bucket.upload("one", tmp_path / "file")
    bucket.upload("two", b"xyz")
    assert not bucket.is_empty()
    assert bucket.read("two") == b"xyz"
    bucket.download("one", tmp_path / "copy", hash_file(tmp_path / "file"))
    assert (tmp_path / "copy").read_bytes() == b"abc" * 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "secret", "message"),
    [
        ("s3://bucket/faces", "wrong", r"cannot access s3://bucket/faces/x .*check bucket, folder, credentials"),
        ("s3://another/faces", None, r"cannot access s3://another/faces/x .*check bucket"),
        ("s3://bucket/faces", None, r"cannot access s3://bucket/faces/x .*NoSuchKey"),
    ],
)
def test_a_mistake_is_reported_at_once(proxy: Proxy, monkeypatch, address: str, secret, message: str) -> None:
    monkeypatch.setattr(s3, "FIRST_WAIT", 100.0)
    if secret:
        use(monkeypatch, proxy.port, secret=secret)
    with pytest.raises(PackedError, match=message) as caught:
        Bucket(address).read("x")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "altered"])
def test_a_lost_connection_or_a_changed_byte_is_repeated(copies: LocalCopies, proxy: Proxy, fault: str, caplog) -> None:
    setattr(proxy, fault, 2)
    path = copies.path("chunk-1.bin")
    assert path.read_bytes() == CONTENT["chunk-1.bin"]
    assert proxy.connections >= 1
    assert [record.message[:14] for record in caplog.records] == ["attempt 1 of 6", "attempt 2 of 6"]


@pytest.mark.slow
def test_a_slow_server_is_waited_for(copies: LocalCopies, proxy: Proxy) -> None:
    proxy.delay = 0.2
    assert copies.path("chunk-2.bin").read_bytes() == CONTENT["chunk-2.bin"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "altered", "disappeared", "silent"])
def test_nothing_that_was_partly_read_stays(copies: LocalCopies, proxy: Proxy, fault: str, monkeypatch) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.1)
    monkeypatch.setattr(s3, "ATTEMPTS", 3)
    if fault == "disappeared":
        proxy.close()
    elif fault == "silent":
        proxy.delay = 0.5
    else:
        setattr(proxy, fault, 99)
    with pytest.raises(PackedError, match=r"after 3 attempts \(.*\); check server and network.*resume=RUN") as caught:
        copies.path("chunk-3.bin")
    assert "\n" not in str(caught.value)
    assert not [path for path in copies.folder.iterdir() if "chunk" in path.name]


@pytest.mark.slow
def test_copies_used_longest_ago_make_room(copies: LocalCopies, proxy: Proxy) -> None:
    for i in (0, 1, 2):
        copies.path(f"chunk-{i}.bin")
        os.utime(copies.folder / f"chunk-{i}.bin", (i, i))
    (copies.folder / ".chunk-5.bin.part").write_bytes(b"of a killed process" * 1000)
    copies.path("chunk-0.bin")  # used now
    copies.path("chunk-3.bin")
    assert sorted(path.name for path in copies.folder.glob("*chunk*")) == ["chunk-0.bin", "chunk-2.bin", "chunk-3.bin"]


@pytest.mark.slow
def test_many_readers_share_downloads_and_the_limit(copies: LocalCopies, proxy: Proxy) -> None:
    largest, running = 0, True

    def watch() -> int:
        most = 0
        while running:
            with suppress(FileNotFoundError):  # removed meanwhile
                most = max(most, sum(path.stat().st_size for path in list(copies.folder.iterdir())))
            time.sleep(0.001)
        return most

    def read(i: int) -> bytes:
        name = f"chunk-{i % 6}.bin"
        while True:
            try:
                return copies.path(name).read_bytes()[:1]
            except FileNotFoundError:  # removed by another reader, as PackedPhotos expects
                continue

    with ThreadPoolExecutor(7) as pool:
        watching = pool.submit(watch)
        found = list(pool.map(read, range(36)))
        running = False
        largest = watching.result()
    assert found == [bytes([i % 6]) for i in range(36)]
    assert 0 < largest <= 35_000


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line(copies: LocalCopies, proxy: Proxy, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Bucket, "_download", full)
    with pytest.raises(PackedError, match=r"No space left on device\); free disk space, lower data.cache_gb"):
        copies.path("chunk-4.bin")
