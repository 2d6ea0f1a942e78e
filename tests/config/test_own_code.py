"""The source of a user's own modules is part of what run this is; nothing is imported to know it."""

import sys
from pathlib import Path

import pytest

from cct_lightning.config.own_code import own_code
from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError

SOURCES = {
    "my_lab/__init__.py": "raise RuntimeError('imported')\n",
    "my_lab/pooling.py": "import torch\nfrom . import norms\nfrom .norms import p\nclass GemPool: ...\n",
    "my_lab/norms.py": "import my_lab.deep.constants\np = 3\n",
    "my_lab/deep/constants.py": "e = 2\n",
    "my_lab/plots.py": "color = 'red'\n",
}
WORDS = ["--config=digits", "--model.pool=my_lab.pooling.GemPool"]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "my_lab"


def resolve() -> ResolvedConfig:
    return ResolvedConfig.resolve(options_of(WORDS))


@pytest.mark.parametrize("name", ["pooling.py", "norms.py", "deep/constants.py", "__init__.py"])
def test_a_change_of_own_code_is_another_run(lab: Path, name: str) -> None:
    before = resolve()
    (lab / name).write_text((lab / name).read_text() + "changed = True\n")
    now = resolve()
    assert before.differences(now) == ["the code of my_lab.pooling has changed"]
    assert before.results_key != now.results_key
    assert before.digest == now.digest, "a cluster's job looks into the same folder, and is told"
    with pytest.raises(InputError, match=r"my_lab\.pooling has changed.*--resume run/last\.ckpt"):
        before.check_same_run(now, Path("run"))
    assert "my_lab" not in sys.modules


def test_code_that_the_run_does_not_import_does_not_count(lab: Path) -> None:
    before = resolve()
    (lab / "plots.py").write_text("color = 'blue'\n")
    assert before.results_key == resolve().results_key


def test_config_yaml_keeps_the_state_of_the_code(lab: Path, tmp_path: Path) -> None:
    stored = tmp_path / "config.yaml"
    stored.write_text(resolve().to_yaml())
    before = ResolvedConfig.read(stored)
    (lab / "pooling.py").write_text("class GemPool: ...\n")
    assert before is not None
    again = ResolvedConfig.read(stored)
    assert again is not None
    assert before.options == again.options
    # As a recipe, it trains with the code as it is now.
    assert before.differences(ResolvedConfig.resolve(options_of([f"--config={stored}"])))


def test_a_run_of_other_parts_does_not_speak_of_code(lab: Path) -> None:
    other = ResolvedConfig.resolve(options_of(["--config=digits"]))
    assert [line.split(" was ")[0] for line in resolve().differences(other)] == ["model.pool"]


def test_a_run_from_before_is_taken_as_it_is(lab: Path) -> None:
    options = {key: value for key, value in resolve().options.items() if key != "code"}
    assert ResolvedConfig.resolve(options).differences(resolve()) == []


@pytest.mark.parametrize(
    "path",
    ["pytorch_lightning.callbacks.EarlyStopping", "cct_lightning.models.pooling.SeqPool", "json.tool.main", "no.where"],
)
def test_libraries_and_the_package_are_not_own_code(path: str) -> None:
    assert own_code({"trainer": {"callbacks": [{"class_path": path}]}}) == {}


def test_options_that_never_change_results_name_no_code(lab: Path) -> None:
    path = "my_lab.pooling.GemPool"
    assert own_code({"tracking": {"pictures": [path]}, "trainer": {"logger": path}}) == {}
    assert list(own_code({"data": {"augment": {"extra_ops": [path]}}})) == ["my_lab.pooling"]
