"""Published checkpoints from a real HTTP server that drops connections, ignores ranges, or sends something else."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.models.weights import download
from cct_lightning.models.weights.download import CHECKPOINTS, fetch, published

State = Callable[[str], dict[str, torch.Tensor]]


class Server(http.server.ThreadingHTTPServer):
    """Serves one content at every path but /missing.

    Attributes:
        content: The bytes.
        drop_after: Bytes after which a connection is cut, for each of the next requests.
        ranges: Whether it knows HTTP ranges.
        moved_to: Where it sends every request on to.
        asked: The Range header of each request.
    """

    content = b""
    ranges = True
    moved_to = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.drop_after: list[int] = []
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Say nothing of the connections that this test cuts."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        content, first = self.server.content, 0
        if self.server.moved_to and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.server.moved_to)
            self.end_headers()
            return
        if "missing" in self.path:
            self.send_error(404)
            return
        if self.server.ranges and self.headers.get("Range"):
            first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        limit = self.server.drop_after.pop(0) if self.server.drop_after else len(content)
        self.wfile.write(content[first : first + limit])

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("CCT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = Server()
    monkeypatch.setenv("CCT_CHECKPOINTS_URL", f"{server.url}/zoo")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def accept(path: Path) -> None:
    """Take anything."""


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connections_are_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.content, server.ranges = bytes(range(256)) * 4000, ranges
    server.drop_after = [300_000, 0, 500_000]
    path = fetch(f"{server.url}/x.bin", tmp_path / "a" / "x.bin", check=accept)
    assert path.read_bytes() == server.content
    # Without ranges every connection starts anew: the second one brought nothing, so there is nothing to go on from.
    third, fourth = ("bytes=300000-", "bytes=800000-") if ranges else (None, "bytes=500000-")
    assert server.asked == [None, "bytes=300000-", third, fourth]
    assert left(tmp_path / "a") == ["x.bin"]
    fetch(f"{server.url}/x.bin", path, check=accept)
    assert len(server.asked) == 4  # it was there


def test_giving_up_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.content, server.drop_after = b"weights" * 100, [200, 0, 0, 0]
    with pytest.raises(InputError, match="continues where it stopped"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept)
    assert left(tmp_path) == ["x.bin.part"]
    server.drop_after = []
    assert fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept).read_bytes() == server.content
    assert server.asked[-1] == "bytes=200-"


def test_a_part_that_was_complete(server: Server, tmp_path: Path) -> None:
    server.content = b"weights" * 100
    (tmp_path / "x.bin.part").write_bytes(server.content)
    assert fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept).read_bytes() == server.content
    (tmp_path / "y.bin.part").write_bytes(server.content * 2)  # of another file
    assert fetch(f"{server.url}/y.bin", tmp_path / "y.bin", check=accept).read_bytes() == server.content


def test_no_such_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HTTP 404"):
        fetch(f"{server.url}/missing.bin", tmp_path / "x.bin", check=accept)
    assert len(server.asked) == 1


def test_nobody_answers(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="connect to the network") as error:
        create_model("cct_7_3x1", pretrained=True)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="set CCT_CACHE"):
        fetch(f"{server.url}/x.bin", tmp_path / "file" / "x.bin", check=accept)


def test_pretrained_by_name_and_by_tag(server: Server, tmp_path: Path, golden_state: State) -> None:
    torch.save(golden_state("cct_7_3x1_32"), tmp_path / "zoo.pth")
    server.content = (tmp_path / "zoo.pth").read_bytes()
    server.drop_after = [1_000_000]
    model = create_model("cct_7_3x1", pretrained=True)
    assert torch.equal(model.head.weight, golden_state("cct_7_3x1_32")["classifier.fc.weight"])
    assert len(server.asked) == 2
    again = create_model("cct_7_3x1_32", pretrained="cifar10_300epochs", num_classes=3)
    assert torch.equal(again.encoder.norm.weight, model.encoder.norm.weight)
    assert len(server.asked) == 2  # from the cache
    assert left(tmp_path / "cache" / "cct_lightning" / "checkpoints") == ["cct_7_3x1_32_cifar10_300epochs.pth"]


@pytest.mark.parametrize("content", [b"<html>moved</html>", b""])
def test_something_else_is_sent(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(InputError, match="is not the published checkpoint") as error:
        create_model("cct_7_3x1", pretrained=True)
    assert "\n" not in str(error.value)
    assert left(tmp_path / "cache" / "cct_lightning" / "checkpoints") == []


def test_weights_of_something_else_are_sent(server: Server, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "x.pth")
    server.content = (tmp_path / "x.pth").read_bytes()
    with pytest.raises(InputError, match=r"lacks 'position\.embedding'"):
        create_model("cct_7_3x1", pretrained=True)


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    server.content, server.drop_after = b"weights" * 100_000, [1000, 1000, 1000]
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert (tmp_path / "x.bin").read_bytes() == server.content
    assert server.asked.count(None) == 1


def test_every_published_checkpoint_is_found() -> None:
    for entry in CHECKPOINTS:
        assert published(entry.name) is entry
        assert published(entry.name, entry.tag).tag == entry.tag
    assert published("cct_7_3x1_sine").tag == "cifar10_5000epochs"
    assert published("cct_7_3x1", "cifar100_300epochs").name == "cct_7_3x1_32_c100"
    assert published("cct_14_7x2_384", "flowers102").name == "cct_14_7x2_384_fl"


@pytest.mark.parametrize("url", ["http://shi-labs.com/zoo", "ftp://shi-labs.com", "file:///zoo", "https:///zoo", "zoo"])
def test_weights_come_over_https(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CCT_CHECKPOINTS_URL", url)
    monkeypatch.setenv("CCT_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"over https alone, and not from {url}") as error:
        create_model("cct_7_3x1", pretrained=True)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_redirects_stay_with_https_and_the_published_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content, server.moved_to = b"weights", "http://example.org/x.bin"
    with pytest.raises(InputError, match="over https alone, and not from http://example"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept)
    server.moved_to = f"http://localhost:{server.server_address[1]}/moved/x.bin"
    fetch(f"{server.url}/x.bin", tmp_path / "mirror.bin", check=accept)  # a mirror is the user's choice
    monkeypatch.setattr(download, "ADDRESS", server.url)
    with pytest.raises(InputError, match="sends on to another host, localhost: set CCT_CHECKPOINTS_URL"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept)
    server.moved_to = f"{server.url}/moved/x.bin"
    assert fetch(f"{server.url}/x.bin", tmp_path / "x.bin", check=accept).read_bytes() == b"weights"
