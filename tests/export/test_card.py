"""The model card: a header that the Hub accepts, and what the run left."""

import json
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from onion_lightning.export.licenses import find_license, license_note
from onion_lightning.training.run_folder import find_figures

FIGURES = Path("evaluation/metrics.json")


@pytest.fixture
def card(exported):
    """Return a function that exports with more flags, and returns the model card."""
    return lambda *words: ModelCard.load(exported(*words) / "README.md")


def test_the_header_names_library_license_and_tags_but_no_directory_as_base_model(card, tiny_base):
    header = card().data.to_dict()
    assert header["library_name"] == "peft"
    assert header["pipeline_tag"] == "text-generation"
    assert "onion_lightning" in header["tags"]
    assert "base_model" not in header  # the Hub refuses a directory
    assert "license" not in header
    (tiny_base / "README.md").write_text("---\nlicense: mit\n---\n")
    try:
        assert card().data.license == "mit"
    finally:
        (tiny_base / "README.md").unlink()


def test_the_card_has_corpus_settings_decoding_and_content_notice(run, tmp_path, corpus_file):
    run("fit", "--trainer.max_steps", "1", "--model.temperature", "0.5")
    run("export", "--ckpt_path", "last", "--output", str(tmp_path / "out"), "--model.temperature", "0.5")
    text = (tmp_path / "out" / "README.md").read_text()
    report = json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert f"The corpus `corpus.csv`: {report['kept']} of {report['read']} rows were kept" in text
    assert str(corpus_file) not in text
    assert "those after 1 optimizer step." in text
    for row in ("| LoRA rank | 8 |", "| adapted layers | q_proj, v_proj |", "| peak learning rate | 0.01 |"):
        assert row in text
    assert "temperature 0.5, top-p 0.95, repetition penalty 1.1, at most 12 new tokens" in text
    assert "This is satire" in text
    assert "Not evaluated" in text


@pytest.fixture
def metrics(checkpoint):
    """Write the figures of an evaluation beside the checkpoint, and return the file."""
    systems = {
        name: {"loss": 2.5, "perplexity": 12.18, "eos_rate": 0.5, "copied_rate": 0.0} for name in ("base", "few_shot")
    }
    systems["tuned"] = {"loss": 2.0, "perplexity": 7.39, "eos_rate": 1.0, "copied_rate": 0.25}
    paired = {"tuned_minus_base": {"difference": -0.5, "interval": [-0.6, -0.4]}}
    content = {"settings": {"headlines": 32, "checkpoint": str(checkpoint)}, "systems": systems, "paired": paired}
    file = checkpoint.parent / "evaluation" / "metrics.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    return file


def test_figures_of_an_evaluation_of_the_same_checkpoint_are_in_the_card(card, metrics):
    text = card().text
    assert "On 32 held-out headlines" in text
    assert "| with these adapters | 2.000 | 7.39 | 100% | 25% |" in text
    assert "-0.500 nats from that of the base model (95% interval -0.600 to -0.400)" in text


def test_the_verdict_of_memorize_on_the_same_checkpoint_is_in_the_card(card, checkpoint):
    assert "recites its training articles was not tested" in card().text
    file = checkpoint.parent / "memorization" / "memorize.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"settings": {"checkpoint": str(checkpoint)}, "verdict": "Of 20 articles none."}))
    assert "Of 20 articles none. This is the result of `python -m onion_lightning memorize`" in card().text


def test_figures_of_another_checkpoint_or_of_an_earlier_state_are_not(metrics, checkpoint, capsys):
    os.utime(metrics, (1, 1))
    assert find_figures(checkpoint, FIGURES) is None
    assert f"{metrics}: is older than {checkpoint}" in capsys.readouterr().err
    metrics.write_text(metrics.read_text().replace("best.ckpt", "last.ckpt"))
    assert find_figures(checkpoint, FIGURES) is None


def test_the_licenses_of_llama_and_the_demo_are_known():
    assert find_license("demo") == "apache-2.0"
    assert "LLAMA 2 Community License" in license_note(find_license("meta-llama/Llama-2-7b-hf"))
    assert find_license("eggs/unknown") is None
    assert license_note(None) == ""


def test_the_python_code_in_the_card_runs_as_printed(exported, monkeypatch, capsys):
    folder = exported("--model.temperature", "0")
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    exec(compile(code[1], "card", "exec"), {})
    assert capsys.readouterr().out.strip()
