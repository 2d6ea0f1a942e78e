"""A real HTTP server that speaks the routes of the Hugging Face Hub which publishing and loading a model take."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Hub(http.server.ThreadingHTTPServer):
    """A Hub of models.

    Attributes:
        repos: USER/NAME -> commits, the newest last, each of files by their paths.
        tags: (USER/NAME, tag) -> number of the commit.
        writers: Tokens that may write.
        gated: Repositories that are shown to nobody.
        private: Repositories that were made private.
        blobs: Large files by their SHA-256.
        storage: Status of the answer to a large file.
    """

    storage = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, list[dict[str, bytes]]] = {}
        self.tags: dict[tuple[str, str], int] = {}
        self.writers = {"hf_writer"}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        words = self.path.partition("?")[0].strip("/").split("/")
        if len(words) < 5:  # all else that a client asks
            return self.answer(404)
        api = words[:2] == ["api", "models"]
        repo, (kind, revision, *path) = "/".join(words[2:4] if api else words[:2]), words[4 if api else 2 :]
        if repo in self.server.gated:
            return self.refuse(403, "GatedRepo")
        if repo not in self.server.repos:
            return self.refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        commits = self.server.repos[repo]
        shas = [hashlib.sha1(f"{repo}{number}".encode()).hexdigest() for number in range(len(commits))]
        named = {"main": len(commits) - 1, **{tag: n for (of, tag), n in self.server.tags.items() if of == repo}}
        number = named.get(revision, shas.index(revision) if revision in shas else None)
        if number is None:
            return self.refuse(404, "RevisionNotFound")
        files = commits[number] if commits else {}
        if kind == "tree":
            entries = [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in files.items()]
            return self.answer(200, entries)
        if "/".join(path) not in files:
            return self.refuse(404, "EntryNotFound")
        content = files["/".join(path)]
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=shas[number])

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        content = self.body()
        self.server.blobs[hashlib.sha256(content).hexdigest()] = content
        self.answer(self.server.storage)

    def do_POST(self) -> None:
        body, token = self.body(), self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return self.refuse(401, "Unauthorized")
        if token not in self.server.writers:
            return self.refuse(403, "Forbidden")
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.server.repos:
                return self.answer(409, {"url": f"{self.server.url}/{repo}"})
            self.server.repos[repo] = [{".gitattributes": b""}]
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(repo)
            return self.answer(200, {"url": f"{self.server.url}/{repo}"})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self.server.url}/blobs/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        words = self.path.partition("?")[0].strip("/").split("/")
        repo, kind = "/".join(words[2:4]), words[4]
        if kind == "preupload":
            modes = [
                {**item, "uploadMode": "lfs" if item["path"].endswith(".safetensors") else "regular"}
                for item in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        files = dict(self.server.repos[repo][-1])
        for item in map(json.loads, body.splitlines()):
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        self.server.repos[repo].append(files)
        done = {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.server.url}/{repo}/commit/0"}
        return self.answer(200, done)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@contextmanager
def hub() -> Iterator[Hub]:
    """Run a Hub."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
