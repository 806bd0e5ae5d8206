"""The `verify` subcommand: an export that is the same, and exports whose template, tokenizer or weights were changed."""

import json
import weakref

import pytest
from safetensors.torch import load_file, save_file

from onion_lightning.cli.main import main
from onion_lightning.verification import command
from tests.export.conftest import trained

LENGTH = ("--model.max_new_tokens", "6", "--count", "3")


@pytest.fixture
def verify(flags, checkpoint, tmp_path, capsys):
    """Returns a function that runs the command, and returns its exit status and the last line that it printed."""

    def command(*words):
        capsys.readouterr()
        line = flags("verify", "--path", str(tmp_path / "exported"), "--ckpt_path", str(checkpoint), *LENGTH, *words)
        status = main(line)
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        return status, printed.strip().splitlines()[-1]

    return command


def found(folder):
    return json.loads((folder / "verify.json").read_text(encoding="utf-8"))


def test_an_export_is_the_checkpoint_that_it_was_made_from(exported, verify):
    folder = exported("--merge", "true")
    status, _ = verify("--model.load_in", "none")
    content = found(folder)
    assert (status, content["agrees"], content["quantization"]) == (0, True, None)
    assert [form["form"] for form in content["forms"]] == ["adapters", "merged"]
    for form in content["forms"]:
        assert form["reference"] == "checkpoint"
        assert form["same_prompts"] == form["same_articles"] == form["same_chats"] == 3
        assert form["largest"] < 1e-4
        assert form["diverges"] == [None] * 3
    assert content["forms"][0]["adapters"] == 0
    assert len(content["settings"]["headlines"]) == 3
    card = (folder / "README.md").read_text()
    assert card.count("## Verified") == 1
    assert verify("--model.load_in", "none")[0] == 0
    assert (folder / "README.md").read_text() == card


def test_only_one_form_is_in_memory_at_a_time(exported, verify, monkeypatch):
    exported("--merge", "true")
    models = []

    def watched(load):
        def loads(*args):
            assert all(model() is None for model in models)
            loaded = load(*args)
            models.append(weakref.ref(loaded))
            return loaded

        return loads

    for name in ("load_peft", "load_merged"):
        monkeypatch.setattr(command, name, watched(getattr(command, name)))
    assert verify("--model.load_in", "none")[0] == 0
    assert len(models) == 2


def test_what_other_base_weights_cost_is_a_line_of_its_own_and_no_failure(exported, verify):
    folder = exported()
    status, _ = verify("--model.load_in", "int8")
    content = found(folder)
    assert status == 0
    assert content["settings"]["load_in"] == "int8"
    assert content["quantization"]["form"] == "checkpoint, not quantized"
    assert content["quantization"]["reference"] == "checkpoint, int8"
    assert content["quantization"]["mean"] > 1e-4
    assert content["forms"][0]["reference"] == "checkpoint, not quantized"
    assert content["forms"][0]["largest"] < 1e-4
    assert list(content["losses"]) == ["checkpoint, int8", "checkpoint, not quantized", "adapters"]


def change_template(folder):
    file = folder / "prompt_template.txt"
    file.write_text(file.read_text().replace("Headline", "Title"))


def change_chat_template(folder):
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("Headline", "Title"))


def change_tokenizer(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["e"], vocabulary["o"] = vocabulary["o"], vocabulary["e"]
    file.write_text(json.dumps(content))


def change_weights(folder):
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    weights[min(weights)].view(-1)[0] += 1e-3
    save_file(weights, file, metadata={"format": "pt"})


def change_merged_weights(folder):
    file = folder / "merged" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.self_attn.o_proj.weight"] *= 2
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_template, "the form 'adapters' differs from {checkpoint} in the template: the prompt is another text"),
        (change_chat_template, "the form 'adapters' differs from {checkpoint} in the template"),
        (
            change_tokenizer,
            "the form 'adapters' differs from {checkpoint} in the tokenizer: texts have other token ids",
        ),
        (change_weights, "in the weights: tokens have other probabilities (1 adapter weights are not those of the"),
        (change_merged_weights, "the form 'merged' differs from {checkpoint} in the weights"),
    ],
)
def test_the_first_stage_that_was_changed_is_named_with_status_1(exported, verify, checkpoint, change, says):
    folder = exported("--merge", "true")
    change(folder)
    status, line = verify("--model.load_in", "none")
    assert status == 1
    assert line.startswith(f"error: --path {folder}: ")
    assert says.format(checkpoint=checkpoint) in line
    assert not found(folder)["agrees"]
    assert "DIFFERS" in (folder / "README.md").read_text()


def test_in_bfloat16_rounding_is_no_difference_but_other_weights_are(exported, verify, monkeypatch):
    # A CPU without bfloat16 computes in float32 instead, because it would take longer.
    monkeypatch.setattr("onion_lightning.model.base_model.cpu_has_bfloat16", lambda: True)
    folder = exported("--merge", "true")
    words = ("--model.load_in", "none", "--trainer.precision", "bf16-mixed")
    assert verify(*words)[0] == 0
    content = found(folder)
    assert content["settings"]["tolerance"] == {"loss": 0.02, "token": 0.1}
    assert content["forms"][0]["mean"] > 1e-3  # more than float32 would differ
    change_merged_weights(folder)
    status, line = verify(*words)
    assert (status, "the form 'merged' differs" in line) == (1, True)


def test_adapters_of_another_checkpoint_are_a_difference_in_the_weights(exported, verify, tiny_base, checkpoint):
    exported()
    trained(tiny_base, checkpoint, seed=2, lora_alpha=32)
    status, line = verify("--model.load_in", "none")
    assert (status, "in the weights" in line) == (1, True)


def test_export_verifies_its_folder_before_it_is_pushed(run, checkpoint, tmp_path, capsys):
    words = ("--output", str(tmp_path / "e"), *LENGTH[:2])
    run("export", "--ckpt_path", str(checkpoint), *words, "--verify", "true", "--push", "egg/egg")
    assert found(tmp_path / "e")["agrees"]
    assert "verify.json" in capsys.readouterr().err  # among the files that would be uploaded


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--count", "1"), "--count 1: must be from 2 to 1000."),
        (("--tolerance", "0"), "--tolerance 0.0: must be above 0, in nats."),
        (("--url_model", "egg"), "--url_model egg: has no effect without --url; give both."),
        (("--url", "http://127.0.0.1:9"), "/v1/models does not answer"),
        (("--path", "nowhere"), "--path nowhere: contains no adapter_config.json; give a folder that export wrote."),
        (("--data.test_fraction", "0", "--data.val_fraction", "0"), "verify needs held-out rows"),
    ],
)
def test_what_cannot_be_verified_is_refused(exported, verify, words, says):
    folder = exported()
    status, line = verify(*words)
    assert status == 1
    assert says in line
    assert not (folder / "verify.json").exists()


def test_verify_needs_a_checkpoint(refused, exported):
    assert "--ckpt_path: verify needs the checkpoint" in refused("verify", "--path", str(exported()))


def test_a_damaged_tokenizer_is_refused(exported, verify):
    folder = exported()
    (folder / "tokenizer.json").write_text("{")
    status, line = verify("--model.load_in", "none")
    assert status == 1
    assert "its tokenizer cannot be loaded" in line
