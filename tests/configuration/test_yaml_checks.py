"""YAML that would be misunderstood in silence is refused, at every door through which it comes in."""

import pytest
import yaml

from mmood.cli.main import main
from mmood.configuration.yaml_checks import check_config
from mmood.errors import MmoodError
from mmood.files import parse_yaml

TWICE = {
    "at the top": ("a: 1\nb: 2\na: 3\n", "'a' twice, in lines 1 and 3"),
    "below": ("x:\n  a: {k: 1}\n  b: 2\n  a: {k: 3}\n", "'a' twice, in lines 2 and 4"),
    "in a list": ("- {k: 1}\n- {k: 1, j: 0, k: 2}\n", "'k' twice, in line 2"),
    "in quotes": ("a: 1\n'a': 2\n", "'a' twice, in lines 1 and 2"),
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("read", [parse_yaml, check_config])
def test_a_key_given_twice_is_named_with_both_lines(read, kind):
    text, expected = TWICE[kind]
    with pytest.raises(MmoodError) as error:
        read(text, "The file x")
    assert expected in str(error.value)
    assert str(error.value).startswith("The file x gives the key")


@pytest.mark.parametrize(
    "text", ["a: {k: 1}\nb: {k: 1}\n", "a: &base {k: 1}\nb: {<<: *base, k: 2}\n", "1: a\n'1': b\n", "[a, a]"]
)
def test_equal_keys_of_different_mappings_merged_keys_and_items_are_no_repetition(text):
    assert parse_yaml(text, "x") == yaml.safe_load(text)
    check_config(text, "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class_names: [cat, no]", "has no without quotes in line 1, which YAML reads as false"),
        ("class_names:\n- cat\n- On", "has On without quotes in line 3, which YAML reads as true"),
        ("[12:30]", "12:30 without quotes in line 1, which YAML reads as a number in base 60; if it is a name, put it"),
        ("ood: {no: [x]}", "has no without quotes"),
        ("{far:[x]}", "has no space after the colon of 'far:'; write 'far: [...]'"),
        ("{far:sun}", "has no space after the colon of 'far:'; write 'far: sun'"),
    ],
)
def test_what_yaml_would_misread_is_named(text, expected):
    with pytest.raises(MmoodError) as error:
        check_config(text, "x")
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "['no', \"on\", '12:30']",
        "save: no",
        "[true, False]",
        "{far: [x]}",
        "[1, 2.5]",
        "{'a:b': null}",
        "a photo: {}",
        '{"a":[1],"b":{}}',
    ],
)
def test_quotes_and_plain_values_pass(text):
    check_config(text, "x")


@pytest.fixture
def configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twice.yaml").write_text("data:\n  loader: {on_error: skip}\n  root: x\n  loader: {workers: 0}\n")
    (tmp_path / "part.yaml").write_text("root: x\nroot: y\n")
    (tmp_path / "outer.yaml").write_text("data: part.yaml\n")
    (tmp_path / "itself.yaml").write_text("name: itself.yaml\n")
    return tmp_path


DOORS = {
    "a config": (["--config", "twice.yaml"], "twice.yaml gives the key 'loader' twice, in lines 2 and 4"),
    "a part of a config": (["--config", "outer.yaml"], "part.yaml gives the key 'root' twice, in lines 1 and 2"),
    "a file as a value": (["--data", "part.yaml"], "part.yaml gives the key 'root' twice"),
    "the same with =": (["--data=part.yaml"], "part.yaml gives the key 'root' twice"),
    "a value": (
        ["--data.loader", "{workers: 0, workers: 1}"],
        "'{workers: 0, workers: 1}' gives the key 'workers' twice",
    ),
    "a name that is no name": (["--data.class_names", "[cat, no]"], "put it in quotes: 'no'"),
    "a set that is a number": (["--data.ood", "{far: [2017]}"], "2017, which YAML reads as a number"),
    "a colon without a blank": (["--data.ood", "{far:[x]}"], "has no space after the colon of 'far:'"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("command", ["test", "fit"])
def test_every_door(door, command, configs, toy_flags, capsys):
    arguments, expected = DOORS[door]
    assert main([command, "--config", "vitb16_zeroshot.yaml", *toy_flags, *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_config_that_names_itself_ends(configs, capsys):
    assert main(["test", "--config", "itself.yaml"]) == 2
    assert "No model is named" in capsys.readouterr().err
