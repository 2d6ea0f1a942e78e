"""Published models: folders that `cct publish` wrote, on this machine or on the Hugging Face Hub.

Both are named as in timm: `hf-hub:USER/NAME`, `hf-hub:USER/NAME@REVISION`, `local-dir:PATH`; a folder also by its path
alone. The weights are one file of safetensors, in whose metadata the whole model is described; `config.json` repeats
that under timm's names, for people and other programs, and is not read back. huggingface_hub is the extra `hub`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cct_lightning.errors import InputError
from cct_lightning.models.arch import BASELINES, is_compact
from cct_lightning.system.importing import require_extra
from cct_lightning.system.places import local_path

HUB, LOCAL = "hf-hub:", "local-dir:"
# The names that timm and the Hub use, too.
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MARK = "cct_lightning"  # the key of a config.json that `cct publish` wrote
_OF_GIT = {".git", ".gitattributes"}
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"


def is_reference(name: object) -> bool:
    """Tell whether a name is that of a published model, or a path, and not an architecture's."""
    if not isinstance(name, str) or is_compact(name) or name in BASELINES:
        return False
    return name.startswith((HUB, LOCAL)) or "/" in name or "\\" in name or Path(name).is_dir()


def weights_file(reference: str | Path) -> Path:
    """Return the file of weights that a reference names, downloaded into the cache of huggingface_hub if need be.

    Args:
        reference: `hf-hub:...`, `local-dir:...`, or a path: of a published folder, or of the file itself.

    Raises:
        InputError: No such model or revision, no right to read it, no network, or huggingface_hub is missing.
    """
    text = Path(reference).as_posix()
    if text.startswith(HUB):
        repo, revision = repository(text)
        return hub_file(repo, WEIGHTS, revision)
    if text.startswith(LOCAL):
        return local_path(text.removeprefix(LOCAL)) / WEIGHTS
    path = local_path(reference)
    return published if (published := path / WEIGHTS).is_file() else path


def repository(reference: str) -> tuple[str, str | None]:
    """Return USER/NAME and the revision, None for the main branch, that `hf-hub:USER/NAME@REVISION` names.

    Raises:
        InputError: It has another form.
    """
    repo, at, revision = reference.removeprefix(HUB).partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")) or (at and not revision):
        raise InputError(f"{reference} names no model of the Hub: write hf-hub:USER/NAME or hf-hub:USER/NAME@REVISION.")
    return repo, revision or None


def hub_file(repo: str, name: str, revision: str | None = None) -> Path:
    """Return a file of a repository, from the cache where it is there already; see `weights_file`."""
    require_extra("hub", "huggingface_hub", purpose=f"{HUB}{repo}")
    import huggingface_hub

    with _one_sentence(repo, revision):
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a model may be published into a folder.

    Raises:
        InputError: It holds other files, or a published model without `overwrite`.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder to publish to.")
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    _check_free(str(folder), files, folder / CONFIG if CONFIG in files else None, overwrite)


def check_repository(repo: str, *, overwrite: bool) -> None:
    """Check that a model may be published into a repository, which need not exist; see `check_folder`.

    Raises:
        InputError: As for a folder; or the Hub cannot be reached, or huggingface_hub is missing.
    """
    require_extra("hub", "huggingface_hub", purpose=f"Publishing to {HUB}{repo}")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _one_sentence(repo):
        try:
            files = set(HfApi().list_repo_files(repo))
        except RepositoryNotFoundError:
            return  # it will be made, or say that it may not
    _check_free(f"{HUB}{repo}", files, hub_file(repo, CONFIG) if CONFIG in files else None, overwrite)


def upload(folder: Path, repo: str, *, private: bool) -> None:
    """Upload a folder as one commit, which readers see whole or not at all; a repository that is missing is made.

    Raises:
        InputError: No token, none that may write there, or no network.
    """
    from huggingface_hub import HfApi

    with _one_sentence(repo):
        api = HfApi()
        api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Publish a model with cct publish")


def _check_free(where: str, files: set[str], config: Path | None, overwrite: bool) -> None:
    if not (others := sorted(files - _OF_GIT)):
        return
    try:
        content: Any = json.loads(config.read_text(encoding="utf-8")) if config else {}
    except ValueError:
        content = {}
    if not (isinstance(content, dict) and MARK in content):
        raise InputError(f"{where} holds something else than a published model ({others[0]}): choose another name.")
    if not overwrite:
        raise InputError(f"{where} holds a published model: choose another name, or say --overwrite true.")


@contextmanager
def _one_sentence(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises, mostly several lines, into one sentence."""
    from huggingface_hub import errors

    # A lost connection is an error of the HTTP library, httpx or requests by version, whose base class HfHubHTTPError
    # shares; a RuntimeError wraps what happened to one file of an upload.
    bases = (base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
    failed: tuple[type[Exception], ...] = (*bases, RuntimeError)
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{HUB}{repo} has no revision {revision or 'main'}: name a branch, tag or commit.") from error
    except errors.GatedRepoError as error:
        raise InputError(f"{HUB}{repo} is gated: ask for access on its page, then {_LOGIN}.") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"The Hub shows no model {repo}: check the name, and if the model is private, {_LOGIN}."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{HUB}{repo} is not in the cache, and the Hub cannot be reached: connect to the network, or give a folder."
        ) from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{HUB}{repo} holds no {WEIGHTS}: it was not published by `cct publish`.") from error
    except errors.HFValidationError as error:
        raise InputError(f"{repo} is no name that the Hub accepts: {' '.join(str(error).split())}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            what = "needs a token" if status == 401 else "refuses this token"
            raise InputError(f"The Hub {what} for {repo}: {_LOGIN}.") from error
        raise InputError(f"The Hub answered {status} for {repo}: try again later.") from error
    except failed as error:
        raise InputError(
            f"The Hub cannot be reached for {repo} ({type(error).__name__}): connect to the network, or name a folder."
        ) from error
