"""YAML files in every spelling and encoding of the standard, with what PyYAML would take without a word refused."""

from pathlib import Path

import pytest

from cct_lightning.config.recipes import expand_configs, layers, options_of
from cct_lightning.config.yaml_file import read_yaml
from cct_lightning.errors import InputError

MINE = "base: digits  # ö\ntrainer:\n  max_epochs: 7\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_yaml_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(MINE.encode(encoding))
    assert read_yaml(path) == {"base": "digits", "trainer": {"max_epochs": 7}}


@pytest.mark.parametrize(
    "text",
    [
        '{"base": "digits", "trainer": {"max_epochs": 7}}',
        '"base": &name "digits"\n? trainer\n: {max_epochs: 7}\n',
        "%YAML 1.1\n---\n!!str base: !!str digits\ntrainer: {max_epochs: 7}\n...\n",
        "trainer:\r\n  max_epochs: 7\r\nbase: |-\r\n  digits\r\n",
    ],
)
def test_a_base_is_found_in_every_spelling(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, newline="")
    assert [layer.stem for layer in layers(str(path))] == ["digits", "mine"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{MINE}model: {{}}\ntrainer: {{}}\n", "the key 'trainer' twice, again in line 5"),
        (f"{MINE}  'max_epochs': 8\n", "the key 'max_epochs' twice, again in line 4"),
        ("a:\n- b: 1\n  b: 1\n", "the key 'b' twice, again in line 3"),
        ("a: 1\n---\nb: 2\n", "in line 2: expected a single document"),
        ("a:\n\tb: 1\n", "in line 2: while scanning"),
        ("a: \udcf6", "save it as UTF-8"),
        ("a: 1\nmodel: &x {optim: *x}\n", "in line 2: an alias is inside its own anchor"),
        ("d: &d [*d]\n", "in line 1: an alias is inside"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=expected):
        read_yaml(path)


def test_aliases_and_merged_keys_are_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("z: &z {x: 0, y: 0}\na: {n: &b {<<: *z, x: 1}}\nc: {<<: *b, y: 2}\n")
    assert read_yaml(path)["a"] == {"n": {"x": 1, "y": 0}}


@pytest.mark.parametrize("words", [["-cdigits"], ["-c=digits"], ["-c", "digits"], ["--config=digits"]])
def test_a_recipe_comes_before_the_options_however_it_is_given(words: list[str]) -> None:
    expanded = expand_configs(["--trainer.max_epochs=3", *words])
    assert expanded[0].startswith("--config=")
    assert expanded[1:] == ["--trainer.max_epochs=3"]


def test_a_base_beside_its_recipe_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("base: other.yaml\n")
    (tmp_path / "mine" / "other.yaml").write_text("base: digits\n")
    (tmp_path / "other.yaml").write_text("base: mnist\n")
    monkeypatch.chdir(tmp_path)
    assert [layer.stem for layer in layers("mine/recipe.yaml")] == ["digits", "other", "recipe"]


@pytest.mark.parametrize("word", ["--data.batch_size=16", "--config=small.yaml"])
def test_a_batch_size_wins_over_the_global_one_below(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("base: digits\ndata: {batch_size: 32, global_batch_size: 32}\n")
    Path("small.yaml").write_text("data: {batch_size: 16}\n")
    found = options_of(["--config=run.yaml", word])["data"]
    assert (found["batch_size"], found.get("global_batch_size")) == (16, None)
    assert options_of(["--config=run.yaml", word, "--data.global_batch_size=64"])["data"]["global_batch_size"] == 64


def test_a_recipe_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="--config needs a value"):
        expand_configs(["--config=", "digits"])
