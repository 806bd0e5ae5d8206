"""Errors of jsonargparse and Lightning, in this project's words."""

import json

import pytest
from jsonargparse import ArgumentError

from onion_lightning.cli.main import main
from onion_lightning.cli.parsing.wording import explain_building, explain_parsing, explain_trainer

LOGGERS, NOT_A_PATH = "lightning.pytorch.loggers.", "either not accessible"


def classes(*named):
    """Return a list of classes with their arguments as the value of a flag."""
    return json.dumps([{"class_path": name, "init_args": arguments} for name, arguments in named])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model.r", "16"], "--model.r 16: is not a flag of fit; give --model.lora_rank."),
        (["--model.lora_r=16"], "--model.lora_r 16: is not a flag of fit; give --model.lora_rank."),
        (["--model.lora_ra", "16"], "--model.lora_ra 16: is not a flag of fit; did you mean --model.lora_rank?"),
        (["--query", "a"], "--query a: is not a flag of fit; it is a flag of attend."),
        (["--zzz"], "--zzz: is not a flag of fit; fit --help lists the flags."),
        (["--optimizer", "SGD"], "--optimizer SGD: is not a flag of fit"),
        (["--data.headlines", "Area", "Man"], "Man: does not belong to a flag; put quotes around a value"),
        (["--model.lora_rank"], "--model.lora_rank: has no value; give one."),
        (["--data.headlines"], "--data.headlines: has no value; give one."),
        (["--config", ""], "--config '': is empty; give a YAML file, or omit the flag."),
        (["--trainer.max_steps", "null"], "--trainer.max_steps null: must be a whole number."),
        (["--data.batch_size", "many"], "--data.batch_size many: must be a whole number."),
        (["--data.batch_size", ""], "--data.batch_size '': must be a whole number."),
        (["--data.seed", "x"], "--data.seed x: must be a whole number or null."),
        (["--data.overflow", "c"], "--data.overflow c: must be cut or drop."),
        (["--model.load_in", "int4"], "--model.load_in int4: must be int8, nf4 or none."),
        (["--model.learning_rate", "fast"], "--model.learning_rate fast: must be a number."),
        (["--model.gradient_checkpointing", "x"], "--model.gradient_checkpointing x: must be true or false."),
        (["--data.base_model", "x"], "--data.base_model: is set by --model.base_model; give that."),
        (["--trainer.precision", "x"], "--trainer.precision x: must be 16-mixed, bf16-mixed or 32-true."),
        (["--trainer.gradient_clip_val", "x"], "--trainer.gradient_clip_val x: must be a number or null."),
        (
            ["--seed_everything", "x"],
            "--seed_everything x: must be a whole number of at least 0, or true for a random seed.",
        ),
        (["--model", "x"], "--model x: is not a YAML file here; give one, or single flags"),
        (["--config", "none.yaml"], "--config none.yaml: is neither a file nor a config of this package (cpu"),
        (
            ["--trainer.logger", "Nope"],
            "--trainer.logger Nope: is not a class; give its import path, such as lightning.",
        ),
        (["--trainer.logger", LOGGERS + "Nope"], "--trainer.logger Nope: there is no such class"),
        (["--trainer.logger", "nope.Logger"], "--trainer.logger Logger: there is no module nope"),
        (["--trainer.logger", json.dumps({"class_path": "lightning.pytorch.Trainer"})], "Trainer: is not a Logger"),
        (["--trainer.logger", "TensorBoardLogger"], "--trainer.logger TensorBoardLogger: requires save_dir"),
        (["--trainer.logger", "WandbLogger", "--trainer.logger.proj", "x"], "WandbLogger: has no argument proj"),
        (["--trainer.callbacks+", "EarlyStopping"], "--trainer.callbacks EarlyStopping: requires monitor"),
        (
            ["--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.patience", "x"],
            "--trainer.callbacks EarlyStopping: its patience x must be a whole number",
        ),
        (
            ["--trainer.callbacks", classes(("LearningRateMonitor", {"logging_interval": "x"}))],
            "--trainer.callbacks LearningRateMonitor: its logging_interval x must be step, epoch or null",
        ),
    ],
)
def test_an_error_of_the_parser_names_the_flag_the_value_and_what_is_accepted(refused_by_parser, words, sentence):
    said = refused_by_parser("fit", *words)
    assert sentence in said
    assert not any(text in said for text in ("Parser key", "Union", "<class", "typing", "Expected", NOT_A_PATH))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: {lora_rnk: 4}", "model.lora_rnk in {}: is not a flag of fit; did you mean --model.lora_rank?"),
        ("modle: {lora_rank: 4}", "modle.lora_rank in {}: is not a flag of fit; give --model.lora_rank."),
        ("num_train_epochs: 4", "num_train_epochs in {}: is not a flag of fit; give --trainer.max_epochs."),
        (
            "fit: {model: {lora_rank: 4}}",
            "in {}: the settings of a command are not put under its name; remove the line `fit:`",
        ),
        ("model: {lora_rank: four}", "--model.lora_rank four in {}: must be a whole number."),
        ("model: {lora_rank: 4, lora_alpha: [", "--config {}: is not valid YAML (line 2"),
        ("data: {headlines: [1984]}", "--data.headlines [1984] in {}: must be a headline, or a list such as"),
        ("just text", "--config {}: contains no settings"),
        ("- a", "--config {}: contains no settings"),
        (
            "trainer: {logger: {class_path: WandbLogger, init_args: {proj: 3}}}",
            "--trainer.logger WandbLogger in {}: has no argument proj",
        ),
    ],
)
def test_an_error_in_a_yaml_file_names_the_file(refused_by_parser, tmp_path, text, says):
    file = tmp_path / "c.yaml"
    file.write_text(text + "\n")
    assert says.format(file) in refused_by_parser("fit", "--config", str(file))


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        (
            "logger",
            classes((LOGGERS + "WandbLogger", {"offline": True, "log_model": True})),
            "--trainer.logger WandbLogger: Providing log_model=True and offline=True is an invalid configuration",
        ),
        (
            "callbacks",
            classes(("EarlyStopping", {"monitor": "x", "mode": "sideways"})),
            "--trainer.callbacks EarlyStopping: `mode` can be min, max, got sideways; change or omit that argument.",
        ),
        (
            "callbacks",
            classes(("ModelCheckpoint", {"save_top_k": -3})),
            "ModelCheckpoint: Invalid value for save_top_k=-3",
        ),
        ("profiler", "x", "--trainer.profiler x: must be simple, advanced or pytorch."),
        ("strategy", "x", "--trainer.strategy x: is not supported; give ddp, or auto on one device."),
        ("max_time", "x", "--trainer.max_time x: must be a duration DD:HH:MM:SS"),
        ("num_nodes", "0", "--trainer.num_nodes 0: "),
        ("devices", "0", "--trainer.devices 0 and"),
        ("devices", "x", "--trainer.devices x and"),
    ],
)
def test_an_error_while_a_class_is_built_names_the_flag_and_the_class(refused, flag, value, sentence):
    said = refused("fit", f"--trainer.{flag}", value)
    assert sentence in said
    assert not any(text in said for text in ("Union", "<class", "Expected a"))


def test_a_logger_whose_package_is_not_installed_says_what_to_install():
    name = "loggers.CometLogger"
    text = (
        f"Does not validate against any of the Union subtypes\nErrors:\n  - Problem with given class_path '{name}':"
        "\n      Requirement 'comet-ml>=3.44.4' not met. HINT: Try running `pip install -U 'comet-ml>=3.44.4'`\n"
        f"  - Expected a <class 'bool'>\nGiven value type: <class 'Namespace'>\nGiven value: Namespace(class_path='{name}')"
    )
    options = {"trainer": {"devices": 1, "logger": {"class_path": name}}}
    assert str(explain_building(ValueError(text), options)) == (
        "--trainer.logger CometLogger: requires a package that is not installed; run pip install 'comet-ml>=3.44.4'."
    )


def test_resuming_a_finished_run_says_which_flag_to_raise():
    text = "You restored a checkpoint with current_epoch=9, but you have set Trainer(max_epochs=2)."
    assert str(explain_trainer(ValueError(text), {"max_epochs": None})) == (
        "--trainer.max_epochs 2: the checkpoint has already trained 9 epochs; give a larger number."
    )


def test_an_error_that_is_not_recognized_is_shortened_to_its_first_line_after_the_flag():
    flags = {"fit": ["data.path"]}
    said = explain_parsing(ArgumentError(None, "Something new:\n  more\n"), ["fit"], flags, "fit")
    assert str(said) == "fit: Something new; fit --help lists the flags."
    said = explain_parsing(
        ArgumentError(None, 'Parser key "fit.data.path":\n  New'), ["fit", "--data.path", "a"], flags, "fit"
    )
    assert str(said).startswith("--data.path ")
    assert str(explain_trainer(ValueError("something new."), {"devices": 1})) == "--trainer: something new."


def test_a_mistyped_command_line_has_exit_status_2(capsys):
    assert main(["fit", "--model.r", "16"]) == 2
    assert capsys.readouterr().err == "error: --model.r 16: is not a flag of fit; give --model.lora_rank.\n"


def test_two_flags_that_exclude_each_other_are_refused(refused, tmp_path):
    said = refused("predict", "--data.headlines", "A", "--data.headlines_file", "h.txt")
    assert "--data.headlines_file h.txt: cannot be combined with --data.headlines; give one of them" in said
