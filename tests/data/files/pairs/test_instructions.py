"""The instruction that all prompts share."""

import pytest

from onion_lightning.data.files.pairs.instructions import find_instruction, measure_instruction

NAMES = ["Area Man Wins", "Area Man’s Egg Lost", "Egg Wins", "Nation Tired"]


def prompts(template: str, count: int = 4) -> list[str]:
    return [template.format(name) for name in NAMES[:count]]


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("Write a satirical article for: {}", ("Write a satirical article for:", "")),
        (" Write an article about {}\n", ("Write an article about", "")),
        ('Write "{}".', ('Write "', '".')),
        ("Headline: {}\n\nArticle:", ("Headline:", "Article:")),
        ("{}. Write the article now", ("", ". Write the article now")),
        ("{}\n\nArticle:", ("", "Article:")),
        ("Area {}", ("", "")),
        ("“{}”", ("", "")),
        ("{}", ("", "")),
        ("{}?", ("", "")),
    ],
)
def test_what_prompts_share_is_an_instruction_if_it_is_long_or_a_sign_ends_it(template, found):
    assert find_instruction(prompts(template)) == found
    for prompt, name in zip(prompts(template), NAMES, strict=True):
        before, after = measure_instruction(prompt, *found)
        if any(found):
            assert prompt[before : len(prompt) - after] == name
        else:
            assert (before, after) == (0, 0)


def test_an_instruction_does_not_end_inside_a_word():
    found = find_instruction([f"Write a news article about Eg{i} rolls" for i in "abc"])
    assert found == ("Write a news article about", "rolls")
    assert find_instruction([f"Write a news article about {i}ing" for i in "abc"]) == ("Write a news article about", "")


@pytest.mark.parametrize(("others", "found"), [(5, "Write an article about"), (6, "")])
def test_an_instruction_is_in_95_percent_of_the_prompts(others, found):
    texts = [f"Write an article about {i * 7919 % 997}" for i in range(100 - others)]
    assert find_instruction([*texts, *map(str, range(others))]) == (found, "")


def test_three_different_prompts_show_an_instruction():
    template = "Write a satirical article for: {}"
    assert find_instruction(prompts(template, 2) * 9) == ("", "")
    assert find_instruction(prompts(template, 1) * 9) == ("", "")
    assert find_instruction(prompts(template, 3)) == ("Write a satirical article for:", "")


def test_a_prompt_without_the_instruction_is_left_as_it_is_and_a_bare_one_has_no_headline():
    assert measure_instruction("Egg Wins.", "Write: ", ".") == (0, 0)
    before, after = measure_instruction("Write: \n", "Write:", "")
    assert before + after == len("Write: \n")
