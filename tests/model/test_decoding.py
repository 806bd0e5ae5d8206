"""Writing articles: what the decode settings do, on the tiny model."""

import dataclasses

import pytest
import torch

from onion_lightning.model.decoding import Decoding, continue_prompts
from tests.model.test_module import module


@pytest.fixture(scope="module")
def written(tiny_base):
    """Continues a prompt of token ids greedily; returns the ids of what is written, and the model's own first choice."""
    made = module(tiny_base, load_in="none").eval()
    model, tokenizer = made.language_model, made.tokenizer
    greedy = Decoding(max_new_tokens=40, temperature=0)

    def write(prompts, penalty):
        heard = []
        decoding = dataclasses.replace(greedy, repetition_penalty=penalty)
        continue_prompts(model, tokenizer, prompts, decoding, 0, streamer=Heard(heard))
        return torch.cat(heard[1:]).tolist()

    return write, lambda prompt: int(model(torch.tensor([prompt])).logits[0, -1].argmax())


class Heard:
    def __init__(self, heard):
        self.heard = heard

    def put(self, ids):
        self.heard.append(ids)

    def end(self):
        pass


def first_choice_in_prompt(choice):
    """A prompt that holds the very token that the model would take first."""
    for seed in range(200):
        prompt = torch.randint(3, 599, (150,), generator=torch.Generator().manual_seed(seed)).tolist()
        if choice(prompt) in prompt:
            return prompt
    raise AssertionError("no such prompt")


def test_the_repetition_penalty_counts_the_article_and_not_the_prompt(written):
    write, choice = written
    prompt = first_choice_in_prompt(choice)
    assert write([prompt], 1e6)[0] == choice(prompt)


def test_a_large_repetition_penalty_lets_no_token_come_twice_and_1_is_none(written):
    write, choice = written
    prompt = [1, 30, 40]
    strict, free = write([prompt], 1e6), write([prompt], 1.0)
    assert len(set(strict)) == len(strict)
    ids = prompt.copy()
    for token in free:
        assert token == choice(ids)
        ids.append(token)
    assert len(set(free)) < len(free)
