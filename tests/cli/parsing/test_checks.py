"""Command lines that are refused before anything is built."""

import re

import pytest

from onion_lightning.cli.main import main

PATHS = ["data.path", "data.headlines_file", "model.base_model", "checkpoint.dirpath", "articles.path", "ckpt_path"]


@pytest.mark.parametrize("flag", PATHS)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_path_is_refused_by_parser(refused_by_parser, flag, value):
    assert refused_by_parser("predict", f"--{flag}", value) == f"--{flag} '': is empty; give a value, or omit the flag."


def test_an_empty_output_folder_is_refused_by_parser(refused_by_parser):
    assert "--output '': is empty" in refused_by_parser("evaluate", "--output", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--trainer.gradient_clip_val", "-1"),
            "--trainer.gradient_clip_val -1: must be at least 0, which turns",
        ),
        (("--trainer.gradient_clip_val", ".nan"), "--trainer.gradient_clip_val nan: must be at least 0"),
        (
            ("--trainer.gradient_clip_algorithm", "value"),
            "has no effect without --trainer.gradient_clip_val; give both.",
        ),
        (
            ("--model.adapter_strength", "0.5"),
            "--model.adapter_strength 0.5: is for predict and serve, and fit uses the adapters as they are; omit it.",
        ),
        (
            ("--model.top_p", "0.5", "--model.temperature", "0"),
            "--model.top_p 0.5: has no effect with --model.temperature 0 (greedy); omit one of them.",
        ),
        (("--seed_everything", "-5"), "--seed_everything -5: must be between 0 and 4294967295."),
        (("--seed_everything", "4294967296"), "--seed_everything 4294967296: must be between 0 and 4294967295."),
    ],
)
def test_a_value_out_of_range_or_without_effect_is_refused_by_parser(refused_by_parser, words, sentence):
    assert sentence in refused_by_parser("fit", *words)


@pytest.mark.parametrize("command", ["fit", "preview"])
@pytest.mark.parametrize("seconds", ["0", "-1", ".nan"])
def test_a_time_limit_must_be_positive(refused_by_parser, command, seconds):
    sentence = refused_by_parser(command, "--collective_timeout", seconds)
    assert re.fullmatch(r"--collective_timeout \S+: must be a number of seconds above 0\.", sentence)


def test_a_section_that_is_a_value_is_refused_by_parser(refused_by_parser, tmp_path):
    (tmp_path / "c.yaml").write_text("trainer: 3\n")
    assert "--trainer 3: must be a YAML file or a section" in refused_by_parser(
        "fit", "--config", str(tmp_path / "c.yaml")
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "error: no command; type python -m onion_lightning and one of fit, validate"),
        (["--seed_everything", "1", "fit"], "error: --seed_everything: the command comes first; type python -m"),
        (["fit"], "error: fit: --data.path is missing; type python -m onion_lightning fit --config cpu"),
        (["fit", "--model.base_model", "demo"], "error: fit: --data.path is missing"),
    ],
)
def test_an_incomplete_command_line_says_what_to_type(capsys, words, says):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(says)
    assert error.count("\n") == 1
