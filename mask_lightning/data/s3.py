"""Files below an address in S3, and local copies of them in a folder of bounded size.

boto3 finds credentials, region and endpoint as usual: environment variables such as AWS_ACCESS_KEY_ID and
AWS_ENDPOINT_URL, or the files in ~/.aws. litdata could fetch chunks, too, but its cache counts the readers of a chunk
in files, which a killed process leaves behind, and its downloads end with a traceback after two minutes or more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mask_lightning.errors import PackedError, one_line
from mask_lightning.utils.files import is_held, sha256_of, wait_for_lock

log = logging.getLogger(__name__)

EXTRA = "pip install 'mask_lightning[packed]'"
ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds after the first failure, doubled after each: half a minute in all, and the timeouts
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without any byte
BLOCK = 2**20  # bytes
POLL_SECONDS = 0.05  # between attempts to take a lock
LOCKS = 64  # that downloads share
TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "Throttling", "ThrottlingException"})

T = TypeVar("T")


class FileFacts(NamedTuple):
    """Size of a file in bytes, and its SHA-256 in hexadecimal digits; a download is compared with them."""

    size: int
    sha256: str


class DamagedError(Exception):
    """A download is not the file that was uploaded."""


class Bucket:
    """Files below `s3://bucket/prefix`. Each process that uses it has a connection of its own.

    Args:
        address: `s3://bucket` or `s3://bucket/prefix`.

    Raises:
        PackedError: the extra `packed` is not installed, or there is no bucket in the address. All methods raise it
            after ATTEMPTS failures, and at once for failures that repeating does not change, such as wrong credentials.
    """

    def __init__(self, address: str) -> None:
        self.bucket, _, self.prefix = address.removeprefix("s3://").rstrip("/").partition("/")
        if not self.bucket:
            raise PackedError(f"expected s3://BUCKET/FOLDER, found {address}; name the bucket")
        self.address = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self._process, self._connection = -1, None

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (self.address,)

    def read(self, name: str) -> bytes:
        """Read a small file."""
        content: bytes = self._repeat(lambda: self._get(name).read(), name)
        return content

    def download(self, name: str, path: Path, facts: FileFacts) -> None:
        """Write a file to the local `path`; after an error its content is not to be used."""
        self._repeat(lambda: self._download(name, path, facts), name)

    def upload(self, name: str, source: Path | bytes) -> None:
        """Write a file: a copy of a local one, or bytes."""

        def put() -> None:
            if isinstance(source, bytes):
                self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=source)
                return
            with source.open("rb") as stream:
                self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=stream)

        self._repeat(put, name)

    def is_empty(self) -> bool:
        """Return True if no file is below the address."""
        prefix = self._key("")
        found = self._repeat(
            lambda: self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1), "its list of files"
        )
        return not found.get("Contents")

    @property
    def _client(self) -> Any:
        if self._process != os.getpid():  # connections must not be shared with a forked process
            self._connection, self._process = _connect(), os.getpid()
        return self._connection

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _get(self, name: str) -> Any:
        return self._client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"]

    def _download(self, name: str, path: Path, facts: FileFacts) -> None:
        body, digest, size = self._get(name), hashlib.sha256(), 0
        with path.open("r+b" if path.exists() else "wb") as stream:
            for block in body.iter_chunks(BLOCK):
                stream.write(block)
                digest.update(block)
                size += len(block)
            stream.truncate()
        if (size, digest.hexdigest()) != facts:
            raise DamagedError(f"expected {facts.size} bytes with SHA-256 {facts.sha256[:12]}, found {size} others")

    def _repeat(self, work: Callable[[], T], name: str) -> T:
        """Call `work` until it succeeds, at most ATTEMPTS times, with growing pauses."""
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return work()
            except (BotoCoreError, ClientError, DamagedError) as error:
                reason = one_line(str(error), most=300)
                what = f"{self.address}/{name}" if name else self.address
                if not is_transient(error):
                    raise PackedError(
                        f"cannot access {what} ({reason}); check bucket, folder, credentials and AWS_ENDPOINT_URL"
                    ) from error
                if attempt == ATTEMPTS:
                    raise PackedError(
                        f"cannot access {what} after {ATTEMPTS} attempts ({reason}); check server and network, then "
                        "start the command again, or continue a training with resume=RUN"
                    ) from error
                log.warning("attempt %d of %d to access %s failed: %s", attempt, ATTEMPTS, what, reason)
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError


def _connect() -> Any:
    boto3, config = import_boto3()
    logging.getLogger("botocore").setLevel(logging.WARNING)  # each process would tell where it found credentials
    # The caller repeats, and requests have the checksums that servers other than Amazon's know.
    options = config(
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", config=options)


def import_boto3() -> tuple[Any, Any]:
    """Import boto3 and its class of options. Raises PackedError, which names the extra, if it is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise PackedError(f"photos in S3 need the package boto3, which is not installed; {EXTRA}") from None
    return boto3, Config


def is_transient(error: Exception) -> bool:
    """Return True for an error that may vanish: no connection, a lost one, a timeout, a busy server, damaged data."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or error.response.get("Error", {}).get("Code") in TRANSIENT_CODES
    return isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError, DamagedError))


class LocalCopies:
    """Folder with local copies of remote files, which all processes of a machine share.

    A file appears when it is complete and has its SHA-256. The files used longest ago make room for others, so that the
    folder, downloads included, never exceeds its limit. A process may keep reading a file that it has opened before.

    Args:
        bucket: where the files are.
        folder: exists, and holds copies of this bucket only.
        files: name -> facts of the files.
        limit: bytes of all copies together; at least twice the largest file.

    Raises:
        PackedError: by `path`, see `Bucket`, or if the disk is full.
    """

    def __init__(self, bucket: Bucket, folder: Path, files: Mapping[str, FileFacts], limit: int) -> None:
        self.bucket, self.folder, self.files, self.limit = bucket, folder, files, limit

    def path(self, name: str) -> Path:
        """Return the local copy of a file, and download it if it is missing."""
        copy = self.folder / name
        while True:
            try:
                os.utime(copy)  # used now
                return copy
            except FileNotFoundError:
                self._fetch(name, copy)

    def _fetch(self, name: str, copy: Path) -> None:
        part = self.folder / f".{name}.part"
        try:
            with _locked(self._lock_of(name)):
                if copy.exists():
                    return
                self._reserve(part, self.files[name].size)
                try:
                    self.bucket.download(name, part, self.files[name])
                    part.replace(copy)
                finally:
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise PackedError(
                f"cannot write the local copy {copy} ({error.strerror or error}); free disk space, lower "
                "data.cache_gb, or set data.cache_dir to another disk"
            ) from error

    def _lock_of(self, name: str) -> Path:
        """Return the lock of a download: one of a few files, which are never removed."""
        return self.folder / f".lock-{zlib.crc32(name.encode()) % LOCKS}"

    def _reserve(self, part: Path, size: int) -> None:
        """Remove old files until there is room, and take it by giving `part` its final size."""
        while True:
            with _locked(self.folder / ".lock"):
                if self._make_room(part, size):
                    with part.open("wb") as stream:
                        stream.truncate(size)
                    return
            time.sleep(POLL_SECONDS)  # other downloads fill the folder; they become files that can be removed

    def _make_room(self, part: Path, size: int) -> bool:
        """Remove the files used longest ago, and parts of killed processes; return True if `size` bytes fit then."""
        copies: list[tuple[float, int, Path]] = []
        used, own = 0, self._lock_of(_name_of(part))
        for path in self.folder.iterdir():
            is_part, name = path.name.endswith(".part"), _name_of(path)
            if name not in self.files:
                continue
            if is_part and (self._lock_of(name) == own or not is_held(self._lock_of(name))):
                path.unlink(missing_ok=True)
                continue
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            used += facts.st_size
            if not is_part:
                copies.append((facts.st_mtime, facts.st_size, path))
        for _, freed, path in sorted(copies):
            if used + size <= self.limit:
                break
            path.unlink(missing_ok=True)
            used -= freed
        return used + size <= self.limit


def _name_of(path: Path) -> str:
    """Return the name of the remote file that a copy, or a part of one, belongs to."""
    return path.name.removeprefix(".").removesuffix(".part")


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a file's lock for the block, after waiting for it."""
    lock.touch()
    with wait_for_lock(lock, poll=POLL_SECONDS):
        yield


def hash_file(path: Path) -> FileFacts:
    """Return size and SHA-256 of a file."""
    return FileFacts(path.stat().st_size, sha256_of(path))
