"""Receives images from `buildah push`: the half of the registry protocol that a push needs.

Pushed this way, layers that are already here are neither read nor compressed again, so a
change of the project's code costs a second; written as an archive, all of TensorFlow would
travel each time. Listens on loopback while images are being built.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.cluster import layout

_BLOB = re.compile(r"/v2/.+/blobs/sha256:([0-9a-f]{64})$")
_UPLOADS = re.compile(r"/v2/.+/blobs/uploads/$")
_UPLOAD = re.compile(r"/v2/.+/blobs/uploads/([0-9a-f]{32})$")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)$")
_CHUNK = 1 << 20


def blob(folder: Path, digest: str) -> Path:
    """The file that holds what has this digest."""
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def manifests(folder: Path) -> dict[str, str]:
    """Name of each image that was pushed, and the digest of its manifest."""
    index = folder / "images.json"
    known: dict[str, str] = json.loads(index.read_text()) if index.exists() else {}
    return known


def write_manifests(folder: Path, known: dict[str, str]) -> None:
    """Replaces what `manifests` says."""
    (folder / "images.json").write_text(json.dumps(known, indent=1))


class _Requests(BaseHTTPRequestHandler):
    """One request. The server's `folder` is where blobs go."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: buildah reports what went wrong."""

    def _reply(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _append_body(self, target: Path) -> None:
        with target.open("ab") as file:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self._copy(size, file.write)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                self._copy(int(self.headers.get("Content-Length", 0)), file.write)

    def _copy(self, size: int, write: Callable[[bytes], object]) -> None:
        while size:
            part = self.rfile.read(min(size, _CHUNK))
            if not part:
                raise ConnectionError("the push broke off")
            write(part)
            size -= len(part)

    def do_GET(self) -> None:
        """Only "is this a registry?"; nobody pulls."""
        found = urlsplit(self.path).path == "/v2/"
        self._reply(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """Whether a blob is here."""
        match = _BLOB.match(urlsplit(self.path).path)
        if match and blob(self.folder, match[1]).exists():
            size = blob(self.folder, match[1]).stat().st_size
            self._reply(HTTPStatus.OK, Content_Length=str(size))
        else:
            self._reply(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Opens an upload."""
        path = urlsplit(self.path).path
        if not _UPLOADS.match(path):
            return self._reply(HTTPStatus.NOT_FOUND)
        number = uuid.uuid4().hex
        (self.folder / number).touch()
        return self._reply(HTTPStatus.ACCEPTED, Location=path + number)

    def do_PATCH(self) -> None:
        """Takes a part of an upload."""
        path = urlsplit(self.path).path
        if not (match := _UPLOAD.match(path)):
            return self._reply(HTTPStatus.NOT_FOUND)
        upload = self.folder / match[1]
        self._append_body(upload)
        reach = f"0-{upload.stat().st_size - 1}"
        return self._reply(HTTPStatus.ACCEPTED, Location=path, Range=reach)

    def do_PUT(self) -> None:
        """Closes an upload, or takes a manifest."""
        url = urlsplit(self.path)
        if match := _UPLOAD.match(url.path):
            upload = self.folder / match[1]
            self._append_body(upload)
            return self._keep(upload, parse_qs(url.query)["digest"][0])
        if match := _MANIFEST.match(url.path):
            upload = self.folder / uuid.uuid4().hex
            self._append_body(upload)
            digest = f"sha256:{hashlib.sha256(upload.read_bytes()).hexdigest()}"
            name = f"localhost/{match[1]}:{match[2]}"
            write_manifests(self.folder, manifests(self.folder) | {name: digest})
            return self._keep(upload, digest)
        return self._reply(HTTPStatus.NOT_FOUND)

    def _keep(self, upload: Path, digest: str) -> None:
        total = hashlib.sha256()
        with upload.open("rb") as file:
            while part := file.read(_CHUNK):
                total.update(part)
        if f"sha256:{total.hexdigest()}" != digest:
            upload.unlink()
            return self._reply(HTTPStatus.BAD_REQUEST)
        upload.rename(blob(self.folder, digest))
        return self._reply(HTTPStatus.CREATED, Docker_Content_Digest=digest, Location=self.path)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a registry that keeps what it is given in `folder`."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    requests = type("Requests", (_Requests,), {"folder": folder})
    with ThreadingHTTPServer(layout.REGISTRY, requests) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "{}:{}".format(*layout.REGISTRY)
        finally:
            server.shutdown()
            thread.join()
