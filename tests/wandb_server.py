"""A stand-in for W&B's server on loopback, as far as the real client asks: runs, files, artifacts, the API, sweeps.

The client's GraphQL operations are answered by name; what is asked for and not known here is an error, which
`WandbServer.unknown` lists. Runs and sweeps are plain dicts, to be looked at by tests.
"""

import itertools
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

ENTITY = "team"
KEY = "local" + 40 * "0"


class WandbServer:
    """The server; `with WandbServer() as server` starts and stops it.

    Attributes:
        runs: Run id -> what the server knows of it: the fields of W&B's API, and `history`, `files`, `exitcode`.
        sweeps: Sweep id -> its `config`, and the `queue` of runs that no agent has yet.
        artifacts: Name, aliases and files of each version, in the order of their upload.
        operations: Names of the GraphQL operations that were asked for.
        unknown: What was asked for and is not known here.
        refuse: HTTP status with which every request is refused: 401 for a wrong key, 403 for a project of others.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.agents: dict[str, dict[str, Any]] = {}
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.refuse: int | None = None
        self.ids = itertools.count(1)
        self.lock = threading.Lock()
        self.port = 0

    def start(self) -> None:
        """Listen, on the same port as before where it has listened already."""
        server = self

        class Handler(_Handler):
            of = server

        self.http = _Server(("127.0.0.1", self.port), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening; clients find nobody."""
        self.http.shutdown()
        self.http.server_close()

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process that is logged in to this server."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        online = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
        return {**ours, **online, "OMP_NUM_THREADS": "1", **more}

    # ---- GraphQL operations, by name -------------------------------------------------------------------------------

    def Viewer(self, _: dict[str, Any]) -> Any:
        who = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "name": ENTITY}
        return {"viewer": who | {"teams": {"edges": []}, "apiKeys": {"edges": []}}}

    GetDefaultEntity = GetViewer = Viewer

    def UpsertBucket(self, asked: dict[str, Any]) -> Any:
        run = self.runs.get(asked["name"])
        inserted = run is None
        if run is None:
            run = self.runs[asked["name"]] = {
                "id": f"run-{asked['name']}", "name": asked["name"], "state": "running", "config": {}, "tags": [],
                "project": asked.get("project") or "uncategorized", "history": [], "files": {}, "summary": {},
                "exitcode": None,
            }  # fmt: skip
        fields = {"displayName": "displayName", "groupName": "group", "jobType": "jobType", "sweep": "sweepName",
                  "tags": "tags", "commit": "commit", "repo": "repo", "program": "program", "host": "host"}  # fmt: skip
        run |= {ours: asked[theirs] for theirs, ours in fields.items() if asked.get(theirs)}
        run["state"] = asked.get("state") or "running"
        for theirs, ours in (("config", "config"), ("summaryMetrics", "summary")):
            run[ours] |= json.loads(asked.get(theirs) or "{}")
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _project(self, name: str) -> dict[str, Any]:
        return {"id": "p", "name": name, "entity": {"id": "e", "name": ENTITY}}

    def _bucket(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run as the client that logs it sees it."""
        return {
            "id": run["id"], "name": run["name"], "displayName": run.get("displayName") or run["name"],
            "description": "", "config": json.dumps(run["config"]), "sweepName": run.get("sweepName"),
            "project": self._project(run["project"]), "historyLineCount": len(run["history"]),
        }  # fmt: skip

    def RunResumeStatus(self, asked: dict[str, Any]) -> Any:
        run = self.runs.get(asked["name"])
        if run is None:
            return {
                "model": {"id": "p", "name": asked["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": None}
            }
        tail = json.dumps([json.dumps(row) for row in run["history"][-1:]])
        return {"model": {"id": "p", "name": run["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": {
            **self._bucket(run), "summaryMetrics": json.dumps(run["summary"]), "logLineCount": 0,
            "eventsLineCount": 0, "historyTail": tail, "eventsTail": "[]", "tags": run["tags"],
            "wandbConfig": json.dumps({"t": 1}),
        }}}  # fmt: skip

    def CreateRunFiles(self, asked: dict[str, Any]) -> Any:
        made = [{"name": name, "uploadUrl": f"{self.url}/upload/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": made}}

    def OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> Any:
        return {"entity": {"organization": {"coreWeaveOrganizationId": ""}}}

    def ServerFeaturesQuery(self, _: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def ArtifactType(self, _: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def CreateArtifact(self, asked: dict[str, Any]) -> Any:
        given = asked["input"]
        found = {"id": f"a{next(self.ids)}", "name": given["artifactCollectionName"], "state": "PENDING", "files": {}}
        found |= {"aliases": [alias["alias"] for alias in given["aliases"]], "type": given["artifactTypeName"]}
        self.artifacts.append(found)
        sequence = {"id": f"s{found['name']}", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": found["id"], "state": "PENDING", "artifactSequence": sequence}}}

    def CreateArtifactManifest(self, asked: dict[str, Any]) -> Any:
        place = {"uploadUrl": f"{self.url}/manifest/{asked['artifactID']}/{asked['name']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m{asked['artifactID']}", "file": place}}}

    UpdateArtifactManifest = CreateArtifactManifest

    def CreateArtifactFiles(self, asked: dict[str, Any]) -> Any:
        made = [
            {"node": {
                "id": f"f{next(self.ids)}", "name": file["name"], "displayName": file["name"], "uploadHeaders": [],
                "uploadUrl": f"{self.url}/artifact/{file['artifactID']}/{file['name']}", "storagePath": file["name"],
                "artifact": {"id": file["artifactID"]}, "uploadMultipartUrls": None,
            }} for file in asked["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": made}}}

    def CommitArtifact(self, asked: dict[str, Any]) -> Any:
        [found] = [part for part in self.artifacts if part["id"] == asked["artifactID"]]
        found["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": found["id"], "digest": "", "state": "COMMITTED"}}}

    # What the public API asks for.

    def Runs(self, asked: dict[str, Any]) -> Any:
        wanted = json.loads(asked.get("filters") or "{}")
        found = [run for run in self.runs.values() if run["project"] == asked["project"] and _fits(run, wanted)]
        if not any(run["project"] == asked["project"] for run in self.runs.values()):
            return {"project": None}
        first = int(asked.get("cursor") or 0)
        page = found[first : first + asked["perPage"]]
        edges = [{"node": self._run(run), "cursor": str(first + i + 1)} for i, run in enumerate(page)]
        more = {"endCursor": str(first + len(page)), "hasNextPage": first + len(page) < len(found)}
        return {"project": {
            "internalId": "1", "runCount": len(found), "readOnly": False, "runs": {"edges": edges, "pageInfo": more},
        }}  # fmt: skip

    def _run(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run as the public API sees it."""
        empty = dict.fromkeys(("commit", "notes", "description", "group", "jobType", "sweepName", "displayName"))
        when = dict.fromkeys(("createdAt", "heartbeatAt"), "2026-01-01T00:00:00Z")
        shown = {key: run[key] for key in run if key not in ("config", "summary", "history", "files")}
        return empty | when | shown | {
            "projectId": "1", "readOnly": False, "config": json.dumps(run["config"]), "systemMetrics": "{}",
            "summaryMetrics": json.dumps(run["summary"]), "historyLineCount": len(run["history"]), "historyKeys": None,
            "user": {"name": ENTITY, "username": ENTITY},
        }  # fmt: skip

    # Sweeps: of the method `grid` alone.

    def UpsertSweep(self, asked: dict[str, Any]) -> Any:
        config = yaml.safe_load(asked["config"])
        parameters = config["parameters"]
        values = [part.get("values", [part.get("value")]) for part in parameters.values()]
        name = f"sweep{len(self.sweeps) + 1}"
        queue = [dict(zip(parameters, run, strict=True)) for run in itertools.product(*values)]
        project = asked.get("projectName") or config.get("project") or "uncategorized"
        self.sweeps[name] = {"config": config, "queue": queue, "project": project}
        return {"upsertSweep": {
            "sweep": {"name": name, "project": self._project(project)}, "configValidationWarnings": [],
        }}  # fmt: skip

    def SweepWithRuns(self, asked: dict[str, Any]) -> Any:
        config = yaml.safe_dump(self.sweeps[asked["sweep"]]["config"])
        return {
            "project": {"sweep": {"id": asked["sweep"], "config": config, "runs": {"edges": []}, "state": "RUNNING"}}
        }

    def CreateAgent(self, asked: dict[str, Any]) -> Any:
        name = f"agent{len(self.agents) + 1}"
        self.agents[name] = {"sweep": asked["sweep"]}
        return {"createAgent": {"agent": {"id": name}}}

    def Heartbeat(self, asked: dict[str, Any]) -> Any:
        agent = self.agents[asked["id"]]
        sweep = self.sweeps[agent["sweep"]]
        command: dict[str, Any] | None = None
        if not json.loads(asked["runState"]):
            command = {"type": "exit"}
            again = [name for name, run in self.runs.items() if run["state"] == "preempted" and "args" in run]
            if again or sweep["queue"]:
                kind, name = ("resume", again[0]) if again else ("run", f"run{next(self.ids):04}")
                self.UpsertBucket({"name": name, "project": sweep["project"], "sweep": agent["sweep"]})
                if not again:
                    self.runs[name]["args"] = {key: {"value": v} for key, v in sweep["queue"].pop(0).items()}
                args, program = self.runs[name]["args"], sweep["config"]["program"]
                command = {"type": kind, "run_id": name, "args": args, "program": program}
        answer = {"agent": {"id": asked["id"]}, "commands": json.dumps([command] if command else [])}
        return {"agentHeartbeat": answer}

    # ---- HTTP ------------------------------------------------------------------------------------------------------

    def graphql(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body.get("operationName") or body["query"].split("(")[0].split("{")[0].split()[-1]
        with self.lock:
            self.operations.append(name)
            answer = getattr(self, name, None)
            if answer is None:
                self.unknown.append(f"{name} {body.get('variables')} {body['query']}")
                return 400, {"errors": [{"message": f"unknown operation {name}"}]}
            return 200, {"data": answer(body.get("variables") or {})}

    def stream(self, run: dict[str, Any], sent: dict[str, Any]) -> None:
        """Take a piece of a run's history, summary, log and end."""
        with self.lock:
            for name, part in (sent.get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    run["history"][part["offset"] :] = map(json.loads, part["content"])
                elif name == "wandb-summary.json":
                    run["summary"] |= json.loads(part["content"][-1])
            run["preempting"] = sent.get("preempting") or run.get("preempting")
            if sent.get("complete"):
                run["exitcode"] = sent.get("exitcode")
                ended = "preempted" if run["preempting"] else "failed"
                run["state"], run["preempting"] = ended if run["exitcode"] else "finished", None


def _fits(run: dict[str, Any], wanted: Any) -> bool:
    """Whether a run fits a filter of the API: `$and`, `$or`, `$ne`, `$in`, and plain values."""
    for key, value in wanted.items():
        if key in ("$and", "$or"):
            ok = (all if key == "$and" else any)(_fits(run, part) for part in value)
        else:
            has = run.get({"sweep": "sweepName"}.get(key, key))
            operator, operand = next(iter(value.items())) if isinstance(value, dict) else ("$eq", value)
            ok = {"$eq": has == operand, "$ne": has != operand, "$in": operator == "$in" and has in operand}[operator]
        if not ok:
            return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that is killed closes its connections in any state."""


class _Handler(BaseHTTPRequestHandler):
    of: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.of.refuse:
            return self.answer(self.of.refuse, {"errors": [{"message": "refused"}]})
        if self.path == "/graphql":
            return self.answer(*self.of.graphql(json.loads(body)))
        if self.path.endswith("/file_stream"):
            self.of.stream(self.of.runs[self.path.split("/")[-2]], json.loads(body))
            return self.answer(200, {})
        return self.answer(404 if "otel" not in self.path else 200, {})

    def do_GET(self) -> None:
        """What is asked for a proxy, or to see whether there is a server at all."""
        self.of.operations.append(f"GET {self.path}")
        self.answer(405, {})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        _, kind, run, name = self.path.split("/", 3)
        if kind == "upload":
            self.of.runs[run]["files"][name] = body
        elif kind == "artifact":
            [found] = [part for part in self.of.artifacts if part["id"] == run]
            found["files"][name] = body
        self.answer(200, {})

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
