"""The `attend` subcommand on the tiny model: where the text comes from, what is written, and what is rejected."""

import json

import numpy as np
import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.model.module import OnionModule
from tests.attention.conftest import KEY, QUERY, TEXT
from tests.conftest import ranks

PHRASES = ("--query", QUERY, "--key", KEY)
EFFECT_KEYS = (
    "log_probability rounding knockout windows largest_window heads top_heads value_zeroing replacement phrases"
)
EFFECT_KEYS += " restored_phrase restoring gradient_x_input rank_correlation"


@pytest.fixture
def attended(run, tmp_path):
    """Run the command on the base model, and return the content of attention.json."""

    def command(*words):
        folder = tmp_path / "results"
        run("attend", *words, "--output", str(folder), "--overwrite", "true")
        assert (folder / "attention.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "attention.html").read_text().startswith("<!doctype html>")
        return json.loads((folder / "attention.json").read_text())

    return command


def test_adapters_trained_on_two_ranks_are_measured(flags, shell, run, tmp_path):
    done = shell(flags("fit", "--trainer.max_steps", "2", "--samples.count", "0", *ranks(2)))
    assert done.returncode == 0, done.stderr
    words = ("--ckpt_path", str(tmp_path / "run/last.ckpt"), "--text", TEXT, *PHRASES)
    run("attend", *words, "--output", str(tmp_path / "a"))
    content = json.loads((tmp_path / "a/attention.json").read_text())
    assert set(content["systems"]) == {"base", "tuned"}
    assert any(np.ravel(content["tuned_minus_base"]["key"]) != 0)


def test_without_a_checkpoint_only_the_base_model_is_measured(attended, capsys):
    content = attended("--text", TEXT, *PHRASES)
    assert list(content["systems"]) == ["base"]
    assert "tuned_minus_base" not in content
    assert content["query"] | {"first": 0, "stop": 0} == {
        "text": "Eggville",
        "start": TEXT.rindex("Eggville"),
        "end": TEXT.rindex("Eggville") + 8,
        "first": 0,
        "stop": 0,
    }
    assert np.shape(content["systems"]["base"]["key"]) == (2, 4)
    assert set(content["systems"]["base"]) == {"key", "first_token", "control_mean", "control_std", "z", "rollout"}
    assert len(content["ranking"]) == 8
    printed = capsys.readouterr().err
    assert "from “Eggville” to “town council”" in printed
    assert "attention.html" in printed


def test_a_config_for_eight_gpus_runs_on_a_machine_without_one(attended, tmp_path):
    config = tmp_path / "gpus.yaml"
    config.write_text("trainer: {accelerator: gpu, devices: 8, strategy: ddp, precision: 16-mixed}\n")
    content = attended("--text", TEXT, *PHRASES, "--config", str(config))
    assert content["checks"]["base"]["future"] == 0.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_accelerator_that_was_typed_and_is_not_there_is_refused(refused):
    words = ("attend", "--text", TEXT, *PHRASES, "--trainer.accelerator", "gpu")
    assert refused(*words) == "error: --trainer.accelerator gpu: there is no GPU; give cpu, or omit the flag."


def test_callbacks_of_the_config_are_not_built(attended, tmp_path):
    """They may need what this machine lacks, and a command without a Trainer would ignore them."""
    config = tmp_path / "callbacks.yaml"
    config.write_text("trainer: {callbacks: [tests.stopper.NotHere]}\n")
    attended("--text", TEXT, *PHRASES, "--config", str(config))


def test_the_text_can_come_from_a_file_or_be_written_for_a_headline(attended, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\ufeff" + TEXT + "\n", encoding="utf-8")
    content = attended("--text_file", str(file), *PHRASES)
    assert content["text"] == TEXT
    content = attended("--headline", "Egg Declares War", "--query", "Article", "--key", "Egg Declares")
    assert content["text"].startswith("### Headline: Egg Declares War\n### Article:\n")
    assert len(content["text"]) > len("### Headline: Egg Declares War\n### Article:\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "received none of them; give exactly one"),
        (("--text", TEXT, "--headline", "Egg"), "received --text and --headline; give exactly one"),
        (("--text_file", "/nowhere/text.txt"), "cannot be read (No such file or directory)"),
        (("--headline", "  "), "--headline: is empty"),
        (("--text", ""), "--text: is empty"),
        (("--text", "caf\udce9"), "--text: contains bytes that are not UTF-8"),
        (("--text_file", "~nobody-here/text.txt"), "cannot be read"),
        (("--text", TEXT, "--output", "~nobody-here/a"), "--output ~nobody-here/a: cannot be written"),
        (("--text", TEXT, "--output", "a" * 300), "cannot be written (File name too long)"),
    ],
)
def test_a_missing_or_ambiguous_text_or_an_unusable_path_is_rejected(refused, words, message):
    assert message in refused("attend", *words, *PHRASES)


def test_earlier_results_are_replaced_and_files_of_others_are_not(run, refused, tmp_path):
    folder = tmp_path / "results"
    words = ("attend", *PHRASES, "--output", str(folder), "--text")
    run(*words, TEXT)
    run(*words, f"Again: {TEXT}")
    assert json.loads((folder / "attention.json").read_text())["text"] == f"Again: {TEXT}"
    for name in ("attention.png", "attention.json", "attention.html"):
        whole = (folder / name).read_bytes()
        (folder / name).write_text("mine")
        assert f"its {name} is not marked as “onion_lightning attend”" in refused(*words, TEXT)
        assert (folder / name).read_text() == "mine"
        (folder / name).write_bytes(whole)
    assert len(list(folder.iterdir())) == 3


def test_a_folder_in_place_of_a_file_is_rejected_before_anything_is_written(refused, tmp_path):
    (tmp_path / "results" / "attention.json").mkdir(parents=True)
    words = ("--text", TEXT, *PHRASES, "--output", str(tmp_path / "results"), "--overwrite", "true")
    assert "its attention.json is a folder" in refused("attend", *words)
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["attention.json"]


def test_a_command_without_a_query_names_the_missing_flag(refused):
    assert "query" in refused("attend", "--text", TEXT, "--key", "egg")


def test_the_page_and_the_plot_are_logged_to_wandb(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = json.dumps(
        {
            "class_path": "lightning.pytorch.loggers.WandbLogger",
            "init_args": {"offline": True, "save_dir": str(tmp_path)},
        }
    )
    run("attend", "--text", TEXT, *PHRASES, "--output", str(tmp_path / "a"), "--trainer.logger", logger)
    media = [file.name for file in (tmp_path / "wandb").rglob("*") if file.is_file() and "attention" in str(file)]
    assert any(name.endswith(".html") for name in media)
    assert any(name.endswith(".png") for name in media)


def test_effects_are_written_printed_and_shown_for_both_models(run, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "2", "--samples.count", "0")
    words = ("--ckpt_path", str(tmp_path / "run/last.ckpt"), "--text", TEXT, *PHRASES, "--effect", "true")
    run("attend", *words, "--effect_tokens", "3", "--effect_window", "2", "--output", str(tmp_path / "a"))
    content = json.loads((tmp_path / "a/attention.json").read_text())
    assert set(content["effects"]) == {"base", "tuned"}
    for effects in content["effects"].values():
        assert set(effects) == set(EFFECT_KEYS.split())
        assert [(one["first_layer"], one["last_layer"]) for one in effects["windows"]] == [(0, 1)]
        assert effects["windows"][0]["query"]["effect"] == effects["knockout"]["query"]["effect"]
        assert np.shape(effects["heads"]) == (2, 4)
        assert effects["knockout"]["following"] is not None
        assert len(effects["gradient_x_input"]) == content["query"]["stop"] - 1
    printed = capsys.readouterr().err
    assert "Tuned model: nats by which an intervention makes “Eggville” less likely" in printed
    assert printed.count("Cutting the edges from") == 2
    assert "Does it matter?" in (tmp_path / "a/attention.html").read_text()


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ((), "bf16-mixed"),
        (("--effect", "true"), "32-true"),
        (("--effect", "true", "--trainer.precision", "bf16-mixed"), "bf16-mixed"),
    ],
)
def test_effects_are_computed_in_float32_unless_another_precision_is_asked_for(
    flags, tmp_path, monkeypatch, capsys, words, precision
):
    monkeypatch.setattr("onion_lightning.model.base_model.cpu_has_bfloat16", lambda: True)
    used = []
    load = OnionModule.load_base
    monkeypatch.setattr(
        OnionModule,
        "load_base",
        lambda self, device, precision: used.append(precision) or load(self, device, precision),
    )
    line = flags("attend", "--text", TEXT, *PHRASES, *words, "--output", str(tmp_path / "a"))
    at = line.index("--trainer.precision")
    assert main(line[:at] + line[at + 2 :]) == 0
    assert used == [precision]
    assert ("rounding alone changes" in capsys.readouterr().err) == (len(words) > 2)


def test_a_text_that_ends_with_the_query_has_no_effect_on_what_follows(attended):
    words = ("--query", "Eggville", "--key", "town council", "--effect", "true")
    effects = attended("--text", "The town council met in Eggville", *words)["effects"]["base"]
    assert effects["knockout"]["following"] is None
    assert effects["knockout"]["query"]["p"] is None  # too few control spans
    assert effects["knockout"]["kl"]["effect"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--effect_tokens", "8"), "--effect_tokens 8: is used with --effect true only; add it, or omit the flag."),
        (("--effect_window", "1"), "--effect_window 1: is used with --effect true only"),
        (("--alternatives", '["egg"]'), "--alternatives ['egg']: is used with --effect true only"),
        (("--effect", "true", "--effect_tokens", "0"), "--effect_tokens 0: must be at least 1."),
        (("--effect", "true", "--effect_window", "0"), "--effect_window 0: must be at least 1."),
        (("--effect", "true", "--effect_window", "3"), "--effect_window 3: must be at most 2"),
        (("--effect", "true", "--alternatives", "[]"), "--alternatives []: is empty"),
        (("--effect", "true", "--alternatives", '["a b c d e f"]'), 'tokens in this place, and --key "town council"'),
    ],
)
def test_effect_flags_that_cannot_be_obeyed_are_refused(refused, words, message):
    assert message in refused("attend", "--text", TEXT, *PHRASES, *words)
