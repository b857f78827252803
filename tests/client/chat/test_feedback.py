from __future__ import annotations

import pytest

from oel_client.chat.feedback import asked_for, classify, repeats

QUESTION = "What is the capital of Australia?"


@pytest.mark.parametrize(
    "message",
    [
        "No, that's wrong.",
        "That is not correct, it's Canberra",
        "I meant the country, not the film",
        "you forgot the second part",
        "Wrong. Try again",
        "Shorter please",
        "In German, please.",
        "too long!",
        "Thanks, but can you use metric units?",
        "Can you show me the steps?",
        "no tables please",
        "Don't apologise",
        "Please stop repeating my question.",
    ],
)
def test_a_correction_is_told_by_its_words(message):
    assert classify(QUESTION, message).kind == "correction"


@pytest.mark.parametrize(
    "message",
    ["Thanks!", "ok perfect", "Great, thank you so much", "that works", "No thanks", "Cheers", "That helped a lot",
     "Yes, exactly", "Makes sense, thanks"],
)  # fmt: skip
def test_a_thanks_is_told_by_its_words(message):
    assert classify(QUESTION, message).kind == "thanks"


@pytest.mark.parametrize(
    "message",
    ["what is the capital of australia", "I asked: what is the capital of Australia?",
     "What is the capital of Australia please?"],
)  # fmt: skip
def test_the_question_once_more_is_a_repeat(message):
    assert classify(QUESTION, message).kind == "repeat"


@pytest.mark.parametrize(
    "message",
    [
        "What is the capital of Austria?",
        "And how many people live there?",
        "Write a thank you note to my aunt",
        "Write a poem in German",
        "Explain recursion with an example",
        "Translate 'good morning' into French",
        "How long does it take to boil an egg?",
        "Give me a recipe for a quick dinner",
        "Where do no-fly zones apply?",
        "",
    ],
)
def test_a_new_question_is_neutral_even_if_it_holds_such_words(message):
    assert classify(QUESTION, message).kind == "neutral"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("That's too long, my eyes hurt.", ["answer briefly"]),
        ("auf Deutsch bitte", ["answer in german"]),
        ("Please use Python, not Java", ["write the code in python"]),
        ("no tables please", ["do not answer as table"]),
        ("stop saying sorry", ["do not apologise"]),
        ("in metric units and step by step", ["show the steps", "use metric units"]),
        ("That's wrong.", []),
    ],
)
def test_a_correction_names_rules_of_the_closed_list(message, said):
    assert sorted(rule.said() for rule in asked_for(message)) == sorted(said)


def test_another_number_is_another_question():
    assert not repeats("What is 12 times 7?", "What is 12 times 8?")
    assert repeats("What is 12 times 7?", "So what is 12 times 7")
