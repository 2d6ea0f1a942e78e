"""Whether a W&B run can be online: who is logged in, and whether the server answers, asked as wandb itself would."""

import contextlib
import netrc
import os
import urllib.error
import urllib.request
from typing import Any, Literal
from urllib.parse import urlsplit

_TIMEOUT = 5.0  # seconds


def _settings() -> Any:
    """Return wandb's settings by its files and environment variables."""
    import wandb  # here and beside, where it is used: a run without W&B need not wait for its import

    settings = wandb.Settings()
    settings.update_from_system_settings()
    settings.update_from_env_vars({key: value for key, value in os.environ.items() if value})
    return settings


def logged_in() -> bool:
    """Say whether wandb finds credentials, without asking the user for any."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    given, host = os.environ.get("NETRC"), urlsplit(_settings().base_url).hostname or ""
    for name in [given] if given else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(os.path.expanduser(name)).authenticators(host):
                return True
    return False


def _reachable() -> bool:
    """Say whether W&B's server answers, through the proxy that wandb would take; any answer will do."""
    settings = _settings()
    proxies = urllib.request.getproxies()  # HTTPS_PROXY and its kin; NO_PROXY is heeded, too
    proxies |= {kind: url for kind in ("http", "https") if (url := getattr(settings, f"{kind}_proxy"))}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        opener.open(f"{settings.base_url}/graphql", timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code not in (502, 503, 504)  # what a proxy says where it finds nobody
    except (OSError, ValueError):
        return False
    return True


def wandb_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> tuple[str, str]:
    """Decide how W&B runs.

    Args:
        mode: What the user asked for; `auto` also follows the environment variable WANDB_MODE.

    Returns:
        `online`, `offline` or `disabled`, and why a run that could be online is not (empty when it is, or as asked).
    """
    chosen = (os.environ.get("WANDB_MODE", "") if mode == "auto" else mode).replace("dryrun", "offline")
    if chosen in ("online", "offline", "disabled"):
        return chosen, ""
    why = "no login" if not logged_in() else "" if _reachable() else "its server does not answer"
    return ("offline" if why else "online"), why
