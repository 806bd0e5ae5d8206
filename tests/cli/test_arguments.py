"""The words of a command line: escapes, which values were given, and commands that are printed."""

import json

from onion_lightning.cli.arguments import given_keys, plain_json, resume_command, split_flags


def test_json_escapes_in_headlines_are_read():
    assert plain_json(json.dumps(["Egg 🥚 “q”"])) == '["Egg 🥚 “q”"]'
    assert plain_json("[not json \\u") == "[not json \\u"


def test_the_printed_command_to_resume_names_one_checkpoint():
    words = ["fit", "--config", "a b.yaml", "--ckpt_path", "x y.ckpt", "--seed_everything", "1"]
    program = "python -m onion_lightning"
    assert resume_command(words) == f"{program} fit --config 'a b.yaml' --seed_everything 1 --ckpt_path last"
    assert resume_command(["fit", "--ckpt_path=last"]) == f"{program} fit --ckpt_path last"


def test_flags_and_yaml_are_found_whichever_way_they_are_written(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {lora_rank: 4}\n")
    for words in (["--config", str(config), "--data.path", "x"], [f"--config={config}", "--data.path=x"]):
        assert given_keys(split_flags(["fit", *words])) == ({"data.path"}, {"model", "model.lora_rank"})


def test_a_value_that_is_typed_and_configured_counts_as_the_later_one(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {lora_rank: 4}\n")
    typed, configured = ["--model.lora_rank", "2"], ["--config", str(config)]
    assert given_keys([*typed, *configured]) == (set(), {"model", "model.lora_rank"})
    assert given_keys([*configured, *typed]) == ({"model.lora_rank"}, {"model"})
