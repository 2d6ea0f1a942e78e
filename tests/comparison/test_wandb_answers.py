"""Whatever W&B's server or its client says, `cct compare --wandb` and `cct dashboard` say it in one sentence."""

from collections.abc import Callable

import pytest
import wandb


@pytest.mark.parametrize(
    "error", [wandb.errors.CommError("permission denied"), TypeError("NoneType"), KeyError("runs"), OSError()]
)
@pytest.mark.parametrize(
    "words", [["compare", "--wandb", "lab/cct"], ["dashboard", "lab/cct", "--ablation", "tokenizer_x_pool"]]
)
def test_an_error_of_the_api_is_one_sentence(
    words: list[str], error: Exception, cct: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    monkeypatch.setattr(wandb, "Api", fail)
    monkeypatch.setattr(workspaces.Workspace, "save", fail)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    code, _, err = cct(*words)
    assert code == 2, err
    assert f"the W&B project lab/cct: {str(error) or 'OSError'}" in err
