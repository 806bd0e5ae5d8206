"""Generation with the tiny model: decoding settings, padding, dropout."""

import dataclasses

import pytest
import torch
from peft.tuners.lora import LoraLayer

from onion_lightning.errors import OnionError
from onion_lightning.messages import tell_once
from onion_lightning.model.adapters.switches import scaled_adapters
from onion_lightning.model.decoding import Decoding, continue_prompts
from onion_lightning.model.writing.best_of import write_articles
from tests.conftest import module


@pytest.fixture(scope="module")
def greedy(tiny_base):
    """Return a function that continues a prompt of token ids greedily, and one that returns the most probable next token."""
    made = module(tiny_base, load_in="none").eval()
    model, tokenizer = made.language_model, made.tokenizer
    decoding = Decoding(max_new_tokens=40, temperature=0)

    def write(prompts, penalty):
        streamed = []
        penalized = dataclasses.replace(decoding, repetition_penalty=penalty)
        continue_prompts(model, tokenizer, prompts, penalized, 0, streamer=Streamer(streamed))
        return torch.cat(streamed[1:]).tolist()

    return write, lambda prompt: int(model(torch.tensor([prompt])).logits[0, -1].argmax())


class Streamer:
    def __init__(self, streamed):
        self.streamed = streamed

    def put(self, ids):
        self.streamed.append(ids)

    def end(self):
        pass


def prompt_with_its_most_probable_next_token(most_probable):
    """Return a prompt that already contains the token that the model would generate first."""
    for seed in range(200):
        prompt = torch.randint(3, 599, (150,), generator=torch.Generator().manual_seed(seed)).tolist()
        if most_probable(prompt) in prompt:
            return prompt
    raise AssertionError("no such prompt")


def test_the_repetition_penalty_applies_to_the_article_and_not_to_the_prompt(greedy):
    write, most_probable = greedy
    prompt = prompt_with_its_most_probable_next_token(most_probable)
    assert write([prompt], 1e6)[0] == most_probable(prompt)


def test_a_large_repetition_penalty_prevents_repeated_tokens_and_1_disables_it(greedy):
    write, most_probable = greedy
    prompt = [1, 30, 40]
    strict, free = write([prompt], 1e6), write([prompt], 1.0)
    assert len(set(strict)) == len(strict)
    ids = prompt.copy()
    for token in free:
        assert token == most_probable(ids)
        ids.append(token)
    assert len(set(free)) < len(free)


def test_left_padding_does_not_change_a_greedy_article(tiny_base):
    made = module(tiny_base, temperature=0.0, max_new_tokens=12, load_in="none")
    made.eval()
    together = made.write(["Egg", "A Longer Headline Of Many Words"], seed=0)
    assert together == [made.write([headline], seed=0)[0] for headline in ("Egg", "A Longer Headline Of Many Words")]


def test_the_finish_reason_distinguishes_complete_from_truncated_articles(tiny_base):
    made = module(tiny_base, temperature=1.0, max_new_tokens=60, candidates=12)
    made.eval()
    made.model.get_base_model().lm_head.weight.data[made.tokenizer.eos_token_id] *= 3
    for article in made.write(["Egg Wins"], seed=0)[0]:
        assert article.finish_reason == ("length" if article.tokens == 60 else "eos")
        assert "</s>" not in article.text


@pytest.mark.parametrize("load_in", ["int8", "none"])
def test_a_model_in_training_mode_generates_without_dropout_and_returns_to_its_mode(tiny_base, load_in):
    made = module(tiny_base, lora_dropout=0.9, load_in=load_in)
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    arguments = (made.language_model, made.tokenizer, ["Egg Wins", "Man Loses"], Decoding(max_new_tokens=20), 3)
    made.eval()
    expected = write_articles(*arguments)
    made.train()
    list(made.modules())[-1].eval()  # a part of the model may have a mode of its own
    before = [layer.training for layer in made.modules()]
    assert write_articles(*arguments) == expected
    assert [layer.training for layer in made.modules()] == before
    with pytest.raises(ValueError, match="no_such_option"):
        write_articles(*arguments, no_such_option=object())
    assert [layer.training for layer in made.modules()] == before


def test_headlines_alone_are_enough_and_none_give_no_articles(tiny_base):
    made = module(tiny_base)
    model, tokenizer = made.language_model, made.tokenizer
    assert write_articles(model, tokenizer, []) == []
    [[article]] = write_articles(model, tokenizer, ["Egg Wins"], max_new_tokens=5)
    assert article.tokens <= 5
    assert write_articles(model, tokenizer, ["Egg Wins"], Decoding(), 0, max_new_tokens=5) == [[article]]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_articles_are_the_same_inside_and_outside_of_autocast(tiny_base, precision):
    """Samples are written outside of it, `predict` inside."""
    made = module(tiny_base, precision)
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    seen = set()
    for name, layer in made.named_modules():
        if name.endswith("lora_A.default"):
            layer.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    outside = made.write(["Egg Wins"], seed=0)
    with torch.autocast("cpu", made.language_model.dtype):
        assert made.write(["Egg Wins"], seed=0) == outside
    assert seen == {made.language_model.dtype}


@pytest.mark.parametrize("mode", ["strict", "warn", "off"])
def test_sampling_is_allowed_where_deterministic_algorithms_are_asked_for(tiny_base, monkeypatch, mode):
    """Top-p sampling uses an operation that CUDA has no deterministic version of."""
    made, during = module(tiny_base), []
    torch.use_deterministic_algorithms(mode != "off", warn_only=mode == "warn")
    generate = made.language_model.generate
    query = torch.get_deterministic_debug_mode
    monkeypatch.setattr(made.language_model, "generate", lambda **more: during.append(query()) or generate(**more))
    try:
        made.write(["Egg Wins"], seed=0, max_new_tokens=2)
        assert during == [0 if mode == "off" else 1]
        assert query() == {"strict": 2, "warn": 1, "off": 0}[mode]
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_article_ends_where_prompt_and_article_fill_the_context_whatever_the_padding(tiny_base, capsys):
    """Short and long prompts in one batch: each has its own limit, and a short one writes what it writes alone."""
    made = module(tiny_base, load_in="none").eval()
    model, tokenizer = made.language_model, made.tokenizer
    model.config.max_position_embeddings = 64
    decoding, prompts = Decoding(max_new_tokens=100_000, temperature=0, repetition_penalty=1.0), [[1, 30, 40], [1] * 50]
    eos, tokenizer.eos_token_id = tokenizer.eos_token_id, 599  # the model ends no article by itself
    tell_once.cache_clear()
    seen = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda layer, args, kwargs: seen.append(int(kwargs["position_ids"].max())), with_kwargs=True
    )
    try:
        for _ in range(2):
            short, long = (one for [one] in continue_prompts(model, tokenizer, prompts, decoding, 0))
        [[alone]] = continue_prompts(model, tokenizer, prompts[:1], decoding, 0)
    finally:
        hook.remove()
        tokenizer.eos_token_id = eos
        model.config.max_position_embeddings = 512
    assert (short.tokens, long.tokens) == (61, 14)
    assert short.finish_reason == long.finish_reason == "length"
    assert alone == short
    assert max(seen) <= 63
    said = "--model.max_new_tokens 100000: the model's context length is 64 tokens, prompt included"
    assert capsys.readouterr().err.count(said) == 1


def test_a_prompt_that_fills_the_context_is_refused(tiny_base):
    made = module(tiny_base)
    with pytest.raises(OnionError, match=r"a prompt of 512 tokens leaves no room .* context of 512 tokens"):
        continue_prompts(made.language_model, made.tokenizer, [[1] * 512], Decoding(), 0)


def test_the_adapter_strength_scales_what_was_learned(tiny_base):
    """0 is the base model; 2 is what adapters with twice the weights give; and afterwards nothing has changed."""
    made = module(tiny_base, load_in="none").eval()
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model, tokenizer = made.language_model, made.tokenizer

    def written(strength):
        decoding = Decoding(max_new_tokens=20, temperature=0, adapter_strength=strength)
        return write_articles(model, tokenizer, ["An Egg"], decoding)[0][0].text

    before = written(1)
    with made.model.disable_adapter():
        base = written(1)
    assert written(0) == base != before
    double = written(2)
    assert written(1) == before
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data *= 2
    assert written(1) == double != before


def test_the_adapter_strength_is_restored_after_an_error(tiny_base):
    made = module(tiny_base)
    with pytest.raises(OnionError), scaled_adapters(made.model, 0.5):
        raise OnionError("stop")
    scalings = {
        value for layer in made.model.modules() if isinstance(layer, LoraLayer) for value in layer.scaling.values()
    }
    assert scalings == {made.lora_alpha / made.lora_rank}


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_a_dial_acts_on_merged_adapters_as_on_others(tiny_base, strength):
    """In 32 bit adapters are merged while articles are written; scaled ones, here by hand, are not."""
    decoding = Decoding(temperature=0, max_new_tokens=30, repetition_penalty=1.0, adapter_strength=strength)
    made = module(tiny_base, load_in="none").eval()
    torch.manual_seed(0)
    for layer in (layer for layer in made.modules() if isinstance(layer, LoraLayer)):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    prompt = [1, 30, 40]
    streamed = []
    continue_prompts(made.language_model, made.tokenizer, [prompt], decoding, 0, streamer=Streamer(streamed))
    ids = prompt.copy()
    with torch.no_grad(), scaled_adapters(made.model, strength):
        for token in torch.cat(streamed[1:]).tolist():
            assert token == int(made.language_model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)
