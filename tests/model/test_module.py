"""The module on a tiny Llama: what trains, what the loss is, what it writes."""

import bitsandbytes
import pytest
import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer

from onion_lightning.data.collate import collate
from onion_lightning.data.prompt import encode_examples
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.errors import OnionError
from onion_lightning.model.module import OnionModule
from onion_lightning.model.seeding import mix_seed


def module(tiny_base, **more):
    made = OnionModule(**({"base_model": str(tiny_base), "seed": 1, "lora_dropout": 0.0} | more))
    made.configure_model()
    return made


def batch(made, articles=("An egg wins again.", "A very much longer article about nothing at all, officials said.")):
    rows = encode_examples(made.tokenizer, ["Egg Wins"] * len(articles), list(articles), 200, "cut")
    supervised = sum(len(row.input_ids) - row.prompt_length for row in rows)
    ids = [row.input_ids for row in rows]
    micro = MicroBatch(tuple(range(len(rows))), supervised, sum(map(len, ids)), 0)
    return collate(ids, [row.prompt_length for row in rows], micro)


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_float32_adapters_train_and_they_move(tiny_base, load_in, checkpointing):
    made = module(tiny_base, load_in=load_in, gradient_checkpointing=checkpointing)
    trainable = {name: p for name, p in made.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # A and B, of q and v, in two layers
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trainable.items())
    quantized = {"int8": bitsandbytes.nn.Linear8bitLt, "nf4": bitsandbytes.nn.Linear4bit, "none": torch.nn.Linear}
    assert all(
        isinstance(layer.base_layer, quantized[load_in]) for layer in made.modules() if isinstance(layer, LoraLayer)
    )
    made.loss_sum(batch(made)).backward()
    assert all(p.grad.abs().sum() > 0 for name, p in trainable.items() if "lora_B" in name)


def test_the_loss_is_the_plain_cross_entropy_of_article_and_eos(tiny_base):
    made = module(tiny_base, load_in="none")
    micro = batch(made)
    with torch.no_grad():
        logits = made.language_model(micro["input_ids"], attention_mask=micro["attention_mask"]).logits
        by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), micro["labels"][:, 1:].flatten(), reduction="sum")
        assert made.loss_sum(micro) == pytest.approx(by_hand.item(), rel=1e-5)


def test_padding_changes_nothing(tiny_base):
    made = module(tiny_base, load_in="none")
    texts = ["An egg wins again.", "A very much longer article about nothing at all, officials said."]
    with torch.no_grad():
        together = made.loss_sum(batch(made, texts))
        alone = sum(made.loss_sum(batch(made, [text])) for text in texts)
    assert together == pytest.approx(alone.item(), rel=1e-5)


def test_an_empty_micro_batch_gives_every_adapter_a_gradient_of_zero(tiny_base):
    made = module(tiny_base)
    made.loss_sum(collate([], [], MicroBatch((), 10, 10, 0))).backward()
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters() if p.requires_grad)


def test_eight_bit_layers_on_the_cpu_give_a_row_the_same_loss_in_training_and_evaluation(tiny_base):
    made = module(tiny_base)
    micro = batch(made)
    with torch.no_grad():
        training = made.loss_sum(micro)
        made.eval()
        assert not any(m.training for m in made.modules() if isinstance(m, torch.nn.Dropout))
        assert made.loss_sum(micro) == training


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_writes_the_same_articles(tiny_base, temperature):
    made = module(tiny_base, temperature=temperature, max_new_tokens=12)
    made.eval()
    first, second = (made.write(["Egg Wins", "A Longer Headline Of Many Words"], seed=5) for _ in range(2))
    assert first == second
    assert all(one[0].tokens <= 12 for one in first)
    assert (made.write(["Egg Wins", "A Longer Headline Of Many Words"], seed=6) == first) == (temperature == 0)


def test_left_padding_does_not_change_a_greedy_article(tiny_base):
    made = module(tiny_base, temperature=0.0, max_new_tokens=12, load_in="none")
    made.eval()
    together = made.write(["Egg", "A Longer Headline Of Many Words"], seed=0)
    assert together == [made.write([headline], seed=0)[0] for headline in ("Egg", "A Longer Headline Of Many Words")]


def test_an_article_says_whether_it_ended(tiny_base):
    made = module(tiny_base, temperature=1.0, max_new_tokens=60, candidates=12)
    made.eval()
    made.model.get_base_model().lm_head.weight.data[made.tokenizer.eos_token_id] *= 3
    for article in made.write(["Egg Wins"], seed=0)[0]:
        assert article.finish_reason == ("length" if article.tokens == 60 else "eos")
        assert "</s>" not in article.text


def test_seeds_differ_by_any_part():
    seeds = [mix_seed(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    assert len(set(seeds)) == 27


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("lora_rank", 0),
        ("lora_dropout", 1.0),
        ("learning_rate", 0.0),
        ("warmup_ratio", 2.0),
        ("target_modules", []),
        ("max_new_tokens", 0),
        ("temperature", -1.0),
        ("top_p", 0.0),
        ("repetition_penalty", 0.0),
        ("candidates", 0),
    ],
)
def test_a_value_out_of_range_is_one_sentence(flag, value):
    with pytest.raises(OnionError, match=rf"^--model\.{flag} .*: must be "):
        OnionModule(**{flag: value})


def test_greedy_candidates_are_refused_for_they_would_be_the_same():
    with pytest.raises(OnionError, match=r"^--model\.candidates 3"):
        OnionModule(temperature=0.0, candidates=3)


def test_layers_that_the_model_does_not_have_are_named(tiny_base):
    with pytest.raises(OnionError, match="c_attn"):
        module(tiny_base, target_modules=["c_attn"])
