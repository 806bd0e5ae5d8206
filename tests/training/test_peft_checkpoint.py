"""Adapters of other programs: any command but `fit` takes their folder as a checkpoint, and `fit` starts from it."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from onion_lightning.cli.main import main
from onion_lightning.model.module import OnionModule
from onion_lightning.training.checkpoint_io import read_checkpoint
from onion_lightning.training.session import Session
from tests.conftest import adapters, records

HEADLINE = ("--data.headlines", "Egg Wins", "--model.temperature", "0")


@pytest.fixture
def foreign(tiny_base, tmp_path):
    """A folder of adapters that peft's `save_pretrained` wrote, which is what TRL and Axolotl call."""
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=20, target_modules=["q_proj", "o_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "foreign")
    return tmp_path / "foreign"


def test_the_model_is_the_one_that_peft_loads(foreign, tiny_base):
    saved = read_checkpoint(foreign)["onion_lightning"]["flags"]
    made = OnionModule(**{name.removeprefix("model."): value for name, value in saved.items()}, load_in="none")
    session = Session(device=torch.device("cpu"))
    session.precision = "32-true"
    session.load(made, str(foreign))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), foreign).eval()
    ids = torch.randint(3, 99, (2, 9))
    with torch.no_grad():
        assert torch.equal(made.model(input_ids=ids).logits, model(input_ids=ids).logits)
        with model.disable_adapter():
            assert not torch.allclose(made.model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_predict_evaluate_validate_attend_and_export_take_the_folder_as_a_checkpoint(run, foreign, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text("model: {lora_rank: 16, lora_alpha: 20, target_modules: [k_proj]}\n")
    given = ("--ckpt_path", str(foreign), "--config", str(config))
    run("predict", *given, *HEADLINE)
    tuned = records(tmp_path / "articles.jsonl")[0]["article"]
    (tmp_path / "articles.jsonl").unlink()
    run("predict", *HEADLINE)
    assert records(tmp_path / "articles.jsonl")[0]["article"] != tuned
    run("validate", *given)
    run("test", *given)
    run("evaluate", *given, "--count", "2", "--shots", "0", "--output", str(tmp_path / "e"))
    phrases = ("--text", "The egg said that the egg is full.", "--query", "full", "--key", "said")
    run("attend", *given, *phrases, "--output", str(tmp_path / "a"))
    assert set(json.loads((tmp_path / "a" / "attention.json").read_text())["systems"]) == {"base", "tuned"}
    run("export", *given, "--output", str(tmp_path / "x"))
    one, two = (load_file(place / "adapter_model.safetensors") for place in (foreign, tmp_path / "x"))
    assert all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())


def test_a_typed_value_that_contradicts_the_folder_is_refused(refused, foreign):
    given = ("--ckpt_path", str(foreign), *HEADLINE)
    assert "--model.lora_rank 8: " in refused("predict", *given, "--model.lora_rank", "8")
    assert "was trained with ['o_proj', 'q_proj']" in refused("predict", *given, "--model.target_modules", '["v_proj"]')


def test_a_base_model_in_another_place_can_be_typed(run, refused, foreign, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    config = json.loads((foreign / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "elsewhere")
    (foreign / "adapter_config.json").write_text(json.dumps(config))
    run("predict", "--ckpt_path", str(foreign), *HEADLINE, "--model.base_model", str(base))


def test_a_folder_is_no_run_to_resume(refused, foreign):
    assert f"give --model.adapter {foreign}, which starts a new run" in refused("fit", "--ckpt_path", str(foreign))


def test_a_folder_without_adapters_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    sentence = refused("predict", "--ckpt_path", str(tmp_path / "empty"), *HEADLINE)
    assert f"--ckpt_path {tmp_path / 'empty'}: is a folder without adapter_config.json" in sentence


def test_fit_starts_from_the_folder_and_resumes_exactly(run, flags, foreign, tmp_path):
    given = ("--model.adapter", str(foreign), "--samples.count", "0")
    run("fit", *given, "--trainer.max_steps", "4")
    once = adapters(tmp_path / "run" / "last.ckpt")
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["onion_lightning"]["flags"]
    assert (saved["model.lora_rank"], saved["model.lora_alpha"]) == (4, 20)
    assert saved["model.target_modules"] == ["o_proj", "q_proj"]
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=2")
    assert main(flags("fit", *given, "--trainer.max_steps", "4", *stop)) == 130
    first = adapters(tmp_path / "run" / "last.ckpt")
    foreign.rename(tmp_path / "gone")
    run("fit", *given, "--trainer.max_steps", "4", "--ckpt_path", "last")
    assert all(torch.equal(once[name], value) for name, value in adapters(tmp_path / "run" / "last.ckpt").items())
    assert any(not torch.equal(once[name], value) for name, value in first.items())


def test_fit_starts_at_the_weights_of_the_folder(run, foreign, tmp_path):
    run("fit", "--model.adapter", str(foreign), "--trainer.max_steps", "1", "--model.learning_rate", "1e-12")
    trained = adapters(tmp_path / "run" / "last.ckpt")
    for name, weight in load_file(foreign / "adapter_model.safetensors").items():
        found = trained["model." + name.replace(".weight", ".default.weight")]
        torch.testing.assert_close(found, weight, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("lora_rank", "8", "were trained with 4"),
        ("lora_alpha", "16", "were trained with 20"),
        ("target_modules", '["v_proj"]', "were trained with ['o_proj', 'q_proj']"),
    ],
)
def test_a_typed_value_that_contradicts_the_adapters_is_refused(refused, foreign, flag, value, says):
    sentence = refused("fit", "--model.adapter", str(foreign), f"--model.{flag}", value)
    assert f"--model.{flag} " in sentence
    assert f"the adapters in {foreign} {says}" in sentence


def test_the_same_values_may_be_typed_and_a_config_gives_way(run, foreign, tmp_path, capsys):
    config = tmp_path / "other.yaml"
    config.write_text("model: {lora_rank: 16, lora_dropout: 0.25}\n")
    typed = ("--model.lora_alpha", "20", "--model.target_modules", '["q_proj", "o_proj"]')
    run("fit", "--model.adapter", str(foreign), "--config", str(config), "--trainer.max_steps", "1", *typed)
    assert f"--model.lora_rank 16 in the config: {foreign} was trained with 4, which is used" in capsys.readouterr().err
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["onion_lightning"]["flags"]
    assert (saved["model.lora_rank"], saved["model.lora_dropout"]) == (4, 0.25)


def test_adapters_for_another_shape_are_refused(refused, foreign):
    weights = load_file(foreign / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(weights | {name: torch.zeros(4, 32)}, foreign / "adapter_model.safetensors")
    sentence = refused("fit", "--model.adapter", str(foreign))
    assert f"--model.adapter {foreign}: its adapters do not match" in sentence
    assert "1 weights are missing, left over or of another shape" in sentence
    del weights[name]
    save_file(weights, foreign / "adapter_model.safetensors")
    assert "do not match" in refused("fit", "--model.adapter", str(foreign))


def test_a_folder_that_is_not_there_is_refused_before_weights_load(refused, tmp_path, caplog):
    sentence = refused("fit", "--model.adapter", str(tmp_path / "none"))
    assert f"--model.adapter {tmp_path / 'none'}: contains no adapter_config.json" in sentence
    assert not any("Loaded" in record.message for record in caplog.records)


def test_other_commands_refuse_the_flag_and_ignore_it_in_the_config_of_a_run(run, refused, foreign, tmp_path):
    assert f"give --ckpt_path {foreign}" in refused("predict", "--model.adapter", str(foreign), *HEADLINE)
    run("fit", "--model.adapter", str(foreign), "--trainer.max_steps", "1")
    assert f"adapter: {foreign}" in (tmp_path / "run" / "config.yaml").read_text()
    config = tmp_path / "adapter.yaml"
    config.write_text(f"model: {{adapter: {foreign}}}\n")
    foreign.rename(tmp_path / "gone")
    run("predict", "--config", str(config), "--ckpt_path", "last", *HEADLINE)


@pytest.mark.filterwarnings("default")
def test_adapters_of_trl_are_taken_as_they_are(run, tiny_base, tmp_path):
    import trl
    from datasets import Dataset

    rows = Dataset.from_list(
        [{"prompt": "### Headline: Egg Wins\n### Article:\n", "completion": "An egg wins again."}] * 4
    )
    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=2, per_device_train_batch_size=2, report_to="none", use_cpu=True,
        save_strategy="no", bf16=False, learning_rate=1e-2, disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.pad_token = tokenizer.eos_token
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    trainer = trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_base), settings, train_dataset=rows, processing_class=tokenizer,
        peft_config=config,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(tmp_path / "lora"))
    run("predict", "--ckpt_path", str(tmp_path / "lora"), *HEADLINE, "--model.base_model", str(tiny_base))
