"""What is a path: ~ is expanded, an address is none."""

from pathlib import Path

import pytest

from cct_lightning.errors import InputError
from cct_lightning.system.places import local_path


@pytest.mark.parametrize(
    "given", ["s3://bucket/run", "gs://b", "file:///tmp/x", "https://a.org/x.pth", Path("s3://b/x")]
)
def test_an_address_is_refused(given: str | Path) -> None:
    with pytest.raises(InputError, match=r"://.* is an address: give a file or folder of this machine"):
        local_path(given)


def test_an_address_of_scp_is_refused() -> None:
    with pytest.raises(InputError, match="me@host:/runs is an address"):
        local_path("me@host:/runs")


@pytest.mark.parametrize("given", ["runs/a", "/a/b", "C:/runs", "C:\\runs", "lr=1:/x", "12:30", "s3:"])
def test_a_path_stays_as_it_is(given: str) -> None:
    assert local_path(given) == Path(given)


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/runs") == tmp_path / "runs"
    with pytest.raises(InputError, match="without ~"):
        local_path("~nobody-of-this-name/runs")
