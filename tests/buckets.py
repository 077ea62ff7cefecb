"""A bucket in memory that fails on demand, and an S3 server on loopback that does."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

SCHEME = "bucket"


class Bucket(MemoryFileSystem):
    """fsspec's file system in memory as ``bucket://``: no renaming, requests counted, and faults."""

    protocol = SCHEME
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    requests: ClassVar[list[tuple[str, str]]] = []  # what was asked for, in order
    fault: ClassVar[Callable[[str, str], None] | None] = None  # called before a request; raises what goes wrong
    unlisted: ClassVar[set[str]] = set()  # what a listing does not have yet

    @classmethod
    def empty(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.requests.clear()
        cls.unlisted.clear()
        cls.fault = None

    def _ask(self, what: str, path: str) -> None:
        path = self._strip_protocol(path)
        type(self).requests.append((what, path))
        if (fault := type(self).fault) is not None:
            fault(what, path)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).replace(f"{SCHEME}://", "memory://")))

    def find(self, path: str, *args: Any, **settings: Any) -> Any:
        self._ask("list", path)
        found = super().find(path, *args, **settings)
        return self._leave_out(found)

    def glob(self, path: str, *args: Any, **settings: Any) -> Any:
        self._ask("list", path)
        found = super().glob(path, *args, **settings)
        return self._leave_out(found)

    def _leave_out(self, found: Any) -> Any:
        if isinstance(found, dict):
            return {key: info for key, info in found.items() if key not in self.unlisted}
        return [key for key in found if key not in self.unlisted]

    def get_file(self, rpath: str, lpath: str, **settings: Any) -> Any:
        self._ask("get", rpath)
        return super().get_file(rpath, lpath, **settings)

    def cat_file(self, path: str, *args: Any, **settings: Any) -> Any:
        self._ask("get", path)
        return super().cat_file(path, *args, **settings)

    def put_file(self, lpath: str, rpath: str, **settings: Any) -> Any:
        return self.pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, **settings: Any) -> Any:
        self._ask("put", path)
        return super().pipe_file(path, value, **settings)

    def rm_file(self, path: str) -> Any:
        self._ask("remove", path)
        return super().rm_file(path)

    def mv(self, *args: Any, **settings: Any) -> Any:
        raise NotImplementedError("a store of objects renames none")

    _mv = rename = move = mv


fsspec.register_implementation(SCHEME, Bucket, clobber=True)


def put(address: str, content: bytes) -> None:
    """Put an object, whatever goes wrong with other people's."""
    fs = fsspec.filesystem(address.partition("://")[0])
    fs.pipe_file(address, content)


def objects_below(address: str) -> dict[str, bytes]:
    """The bytes of every object below an address, by what is behind it."""
    fs = fsspec.filesystem(address.partition("://")[0])
    fs.invalidate_cache()
    root = fs._strip_protocol(address).rstrip("/") + "/"
    return {key[len(root) :]: fs.cat_file(key) for key in fs.find(address)}


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator["FaultyS3"]:
    """An S3 API on loopback with a bucket named ``bucket``; the environment names it and its key."""
    moto = pytest.importorskip("moto.server", reason="needs pip install 'moto[server]' s3fs")
    pytest.importorskip("s3fs", reason="needs pip install 'moto[server]' s3fs")
    from werkzeug.serving import make_server

    server = FaultyS3(moto.DomainDispatcherApplication(moto.create_backend_app))
    http = make_server("127.0.0.1", 0, server, threaded=True)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{http.server_port}",
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    reset = urllib.request.Request(f"http://127.0.0.1:{http.server_port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # what an earlier server of this process had
    s3fs.S3FileSystem().mkdir("bucket")
    try:
        yield server
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        http.shutdown()
        http.server_close()


class FaultyS3:
    """A WSGI application before the server: answers 500 to what ``fails`` says, and waits ``seconds`` before each."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.seconds = 0.0
        self.fails: Callable[[str, str], bool] = lambda method, path: False
        self.failed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(self.seconds)
        if self.fails(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            self.failed += 1
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"]
        return self.application(environ, start_response)
