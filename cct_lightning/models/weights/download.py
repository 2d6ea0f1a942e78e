"""The published checkpoints: their names, and their download into the cache.

Source of names and addresses: the model zoo of the reference implementation (SHI-Labs/Compact-Transformers), which
publishes no checksums. So files come from its host over https, and their content is checked before they are kept.
"""

import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from cct_lightning.errors import InputError, nearest
from cct_lightning.models.arch import is_compact, parse_arch
from cct_lightning.system.places import cache_root, local_path

ADDRESS = "https://shi-labs.com/projects/cct/checkpoints"  # CCT_CHECKPOINTS_URL replaces it by a mirror, of https, too
ATTEMPTS = 3  # connections in a row without a new byte before giving up
TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 18  # bytes
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Published(NamedTuple):
    """One published checkpoint."""

    name: str  # of its model
    tag: str  # what it was trained on, as `pretrained` accepts it
    file: str  # its path under `ADDRESS`


CHECKPOINTS: tuple[Published, ...] = (
    Published("cct_7_3x1_32", "cifar10_300epochs", "pretrained/cct_7_3x1_32_cifar10_300epochs.pth"),
    Published("cct_7_3x1_32_sine", "cifar10_5000epochs", "pretrained/cct_7_3x1_32_sine_cifar10_5000epochs.pth"),
    Published("cct_7_3x1_32_c100", "cifar100_300epochs", "pretrained/cct_7_3x1_32_cifar100_300epochs.pth"),
    Published("cct_7_3x1_32_sine_c100", "cifar100_5000epochs", "pretrained/cct_7_3x1_32_sine_cifar100_5000epochs.pth"),
    Published("cct_7_7x2_224_sine", "flowers102", "pretrained/cct_7_7x2_224_flowers102.pth"),
    Published("cct_14_7x2_224", "imagenet", "pretrained/cct_14_7x2_224_imagenet.pth"),
    Published("cct_14_7x2_384", "imagenet", "finetuned/cct_14_7x2_384_imagenet.pth"),
    Published("cct_14_7x2_384_fl", "flowers102", "finetuned/cct_14_7x2_384_flowers102.pth"),
)


def published(name: str, tag: str | None = None) -> Published:
    """Find a published checkpoint.

    Args:
        name: The model's name; `cct_7_3x1` is `cct_7_3x1_32`, and with a tag `_c100` and `_fl` do not matter.
        tag: What it was trained on, such as `cifar100_300epochs`; None: the one that the name says.

    Raises:
        InputError: There is none.
    """

    def model(name: str) -> object:
        arch = parse_arch(name) if is_compact(name) else None
        return name if arch is None else replace(arch, name="", num_classes=0 if tag else arch.num_classes)

    same = [entry for entry in CHECKPOINTS if model(entry.name) == model(name)]
    for entry in same:
        if tag in (None, entry.tag):
            return entry
    have = ", ".join(f"{entry.name} ({entry.tag})" for entry in CHECKPOINTS)
    what = f"{name!r} trained on {tag!r}" if tag else f"{name!r}"
    raise InputError(
        f"There are no published weights of {what}: choose one of {have}, or the path of a checkpoint."
        f"{nearest(tag, [entry.tag for entry in same]) if tag else ''}"
    )


def checkpoint_folder() -> Path:
    """Return where downloads are kept: `checkpoints` in CCT_CACHE/cct_lightning, else in the user's cache folder."""
    chosen = os.environ.get("CCT_CACHE")
    return (local_path(chosen) / "cct_lightning" if chosen else cache_root()) / "checkpoints"


def check_address(url: str) -> str:
    """Return an address from which weights may come: by https, or from this machine.

    Raises:
        InputError: Another one, from which anybody in between could send other weights.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise InputError(f"Weights are downloaded over https alone, and not from {url}: set CCT_CHECKPOINTS_URL to it.")
    return url


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to https alone, and away from the published host nowhere; a mirror is the user's choice."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        home = urllib.parse.urlsplit(ADDRESS).hostname
        new = urllib.parse.urlsplit(check_address(newurl)).hostname or ""
        if urllib.parse.urlsplit(req.full_url).hostname == home and not f".{new}".endswith(f".{home}"):
            raise InputError(
                f"{req.full_url} sends on to another host, {new}: set CCT_CHECKPOINTS_URL to a mirror that you trust."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def fetch(url: str, path: Path, *, check: Callable[[Path], object]) -> Path:
    """Download a file unless it exists, and return its path; an interrupted download is continued where it stopped.

    Args:
        url: Its address.
        path: Its destination; an incomplete download is kept beside it, as `.part`.
        check: Called with the complete file before it is renamed; an `InputError` from it refuses the file.

    Raises:
        InputError: An address without https, no network, no such file, a full disk, or content that `check` refuses.
    """
    if path.exists():
        return path
    check_address(url)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):  # several processes of a run may need it
            if path.exists():
                return path
            _download(url, part)
            try:
                check(part)
            except InputError as error:
                part.unlink()
                raise InputError(f"What {url} sent is not the published checkpoint: {error}") from error
            part.replace(path)
    except OSError as error:
        raise InputError(
            f"Cannot write {path} ({error.strerror or error}): set CCT_CACHE to another folder."
        ) from error
    return path


def _download(url: str, part: Path) -> None:
    """Download `part` in full, connecting again as long as each connection brings new bytes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive(url, part, before):
                return
            reason = "the connection broke"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # the server has nothing after these bytes
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                part.unlink()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code in (401, 403, 404, 410):
                raise InputError(f"Cannot download {url} ({reason}): give the path of a checkpoint instead.") from error
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        grown = part.exists() and part.stat().st_size > before
        failures = 0 if grown else failures + 1
        if failures >= ATTEMPTS:
            raise InputError(
                f"Cannot download {url} ({reason}): connect to the network and run this again, which continues where "
                "it stopped, or give the path of a checkpoint that you have."
            )
        time.sleep(0.5 * failures)


def _receive(url: str, part: Path, have: int) -> bool:
    """Receive the rest after the first `have` bytes; return whether the file is complete."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    response: HTTPResponse
    with _OPENER.open(request, timeout=TIMEOUT) as response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
        bar = Progress(*columns, console=Console(stderr=True, force_jupyter=False, force_terminal=sys.stderr.isatty()))
        with bar, part.open("ab" if have else "wb") as file:
            task = bar.add_task(part.name.removesuffix(".part"), total=total, completed=have)
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                bar.update(task, completed=have)
    # Without a length, the end of the connection is the end of the file; the check of its content decides.
    return total is None or have == total
