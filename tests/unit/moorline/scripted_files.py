"""The files of an agent, for tests of the client: calls of the protocol, and routes over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.moorline.scripted_platform import TIME, TOKEN, Json, Platform, RefusedError, error

PREFIX = "/v1/agents/one/files/"


@dataclass
class Files:
    """What the agent has.

    Attributes:
        files: Content by path.
        etags: By path.
        changes: What `diffFiles` answers.
        requests: Method, path and headers of each request over HTTP.
        refusal: What the next request is answered with: status and body.
        cut: True to break the connection in the middle of an answer.
        port: Where HTTP is served.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    changes: Json = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refusal: tuple[int, bytes, dict[str, str]] | None = None
    cut: bool = False
    port: int = 0
    uploads: dict[str, bytes] = field(default_factory=dict)

    def join(self, platform: Platform) -> None:
        """Answer the platform's calls about files."""
        for name in ("list_files", "read_file", "write_file", "delete_file", "diff_files"):
            setattr(platform, f"do_{name}", getattr(self, name))

    def facts(self, path: str) -> Json:
        """Describe a file."""
        if path not in self.files:
            raise RefusedError("RESOURCE_NOT_FOUND", "There is no such thing.")
        return {
            "path": path,
            "kind": "KIND_FILE",
            "size": float(len(self.files[path])),
            "updateTime": TIME,
            "etag": self.etags.get(path, "e1"),
        }

    def list_files(self, request: Json) -> Json:
        """List a folder and a link, then each file, two a page."""
        entries: list[Json] = [
            {"path": "src", "kind": "KIND_FOLDER", "updateTime": TIME},
            {"path": "link\n", "kind": "KIND_LINK", "target": "/etc/\x1bpasswd"},
            *(self.facts(path) for path in self.files),
        ]
        start = int(request["pageToken"] or 0)
        end = start + min(2, request["pageSize"])
        more = {"nextPageToken": str(end)} if end < len(entries) else {}
        return {"files": entries[start:end], **more}

    def read_file(self, request: Json) -> Json:
        """Read a part."""
        facts = self.facts(request["path"])
        offset = request["offset"]
        part = self.files[request["path"]][offset : offset + request["length"]]
        return {"file": facts, "content": base64.b64encode(part).decode()}

    def write_file(self, request: Json) -> Json:
        """Write a part."""
        if request["createOnly"] and request["path"] in self.files:
            raise RefusedError("RESOURCE_EXISTS")
        before = self.uploads.get(request.get("uploadId", ""), b"") if request["offset"] else b""
        assert len(before) == request["offset"]
        whole = before + base64.b64decode(request["content"])
        if request.get("more"):
            self.uploads[request["uploadId"]] = whole
            return {}
        self.files[request["path"]] = whole
        return {"file": self.facts(request["path"])}

    def delete_file(self, request: Json) -> Json:
        """Delete."""
        self.facts(request["path"])
        del self.files[request["path"]]
        return {}

    def diff_files(self, request: Json) -> Json:
        """Tell what changed."""
        return {"changes": self.changes}


class _Handler(BaseHTTPRequestHandler):
    files: Files
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """Download, or pack."""
        parts = urlsplit(self.path)
        if not self._accept():
            return
        if parts.path == "/v1/agents/one/archive":
            self._send(b"PK" + parse_qs(parts.query).get("path", [""])[0].encode())
            return
        self._send(self.files.files.get(unquote(parts.path.removeprefix(PREFIX))))

    def do_PUT(self) -> None:
        """Upload."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._accept():
            return
        path = unquote(urlsplit(self.path).path.removeprefix(PREFIX))
        self.files.files[path] = content
        self._send(json.dumps(self.files.facts(path)).encode())

    def _accept(self) -> bool:
        self.files.requests.append((self.command, self.path, dict(self.headers)))
        if self.files.refusal is not None:
            status, body, headers = self.files.refusal
            self._send(body, status, headers)
            return False
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._send(json.dumps({"error": error("TOKEN_INVALID")}).encode(), 401)
            return False
        return True

    def _send(
        self, body: bytes | None, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        if body is None:
            status, body = 404, json.dumps({"error": error("RESOURCE_NOT_FOUND")}).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.files.cut else body)
        self.close_connection = True


@contextmanager
def served(files: Files) -> Iterator[Files]:
    """Serve files over HTTP while inside."""
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    files.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
