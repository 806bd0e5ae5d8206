"""The words of a command line: escapes, which values were given, and commands that are printed."""

import json

import pytest

from onion_lightning.cli.parsing.arguments import given_keys, given_value, prepare, resume_command
from onion_lightning.errors import UsageError


def test_json_escapes_in_headlines_are_read():
    assert prepare([json.dumps(["Egg 🥚 “q”"])]) == ['["Egg 🥚 “q”"]']
    assert prepare(["[not json \\u"]) == ["[not json \\u"]


@pytest.mark.parametrize(
    "headline",
    [
        "Area Man Wins",
        "Man: I Won",
        "[sic] Man",
        "{Man}",
        "1984",
        "true",
        "- Man",
        "-5 Degrees",
        "# 1",
        "'Egg' Wins",
        "a=b",
    ],
)
@pytest.mark.parametrize("flag", ["--data.headlines", "--data.headlines+"])
def test_a_plain_string_is_one_headline_even_if_it_looks_like_yaml(flag, headline):
    assert [json.loads(word) for word in prepare([flag, headline])[1:]] == [[headline]]


@pytest.mark.parametrize("value", ['["A", "B"]', "['A', 'B']", "[A, B]"])
def test_a_list_of_headlines_is_a_list(value):
    assert prepare(["--data.headlines", value]) == ["--data.headlines", '["A", "B"]']


@pytest.mark.parametrize("value", ["[]", "null", "--data.path"])
def test_no_headlines_are_left_as_they_are(value):
    assert prepare(["--data.headlines", value]) == ["--data.headlines", value]


@pytest.mark.parametrize("value", ['["A", "B"', '["A" B]', "['A'", "[1984]"])
def test_a_list_of_headlines_with_a_mistake_is_refused_and_not_taken_for_a_headline(value):
    with pytest.raises(UsageError, match="is not a valid list; give a headline, or a list"):
        prepare(["--data.headlines", value])


def test_the_printed_command_to_resume_names_one_checkpoint():
    words = ["fit", "--config", "a b.yaml", "--ckpt_path", "x y.ckpt", "--seed_everything", "1"]
    program = "python -m onion_lightning"
    assert resume_command(words) == f"{program} fit --config 'a b.yaml' --seed_everything 1 --ckpt_path last"
    assert resume_command(["fit", "--ckpt_path=last"]) == f"{program} fit --ckpt_path last"


def test_flags_and_yaml_are_found_whichever_way_they_are_written(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {lora_rank: 4}\n")
    for words in (["--config", str(config), "--data.path", "x"], [f"--config={config}", "--data.path=x"]):
        assert given_keys(prepare(["fit", *words])) == ({"config", "data.path"}, {"model", "model.lora_rank"})


def test_a_value_that_is_typed_and_configured_counts_as_the_later_one(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {lora_rank: 4}\n")
    typed, configured = ["--model.lora_rank", "2"], ["--config", str(config)]
    assert given_keys([*typed, *configured]) == ({"config"}, {"model", "model.lora_rank"})
    assert given_keys([*configured, *typed]) == ({"config", "model.lora_rank"}, {"model"})


def test_a_config_is_found_by_its_short_flag_too():
    assert given_keys(["fit", "-c", "none.yaml"]) == ({"config"}, set())


def test_the_last_value_of_a_flag_is_the_given_one():
    assert given_value(["--a", "1", "--a", "2", "--b", "--c"], "--a") == "2"
    assert given_value(["--a", "1", "--b", "--c"], "--b") is None
