from __future__ import annotations

import pytest

from oel_shared.chat.behaviours import known_rules
from oel_shared.chat.seen import language_of
from oel_shared.chat.vocabulary import Rule

LONG = "word " * 200
CODE = "```python\nx = 1  # one\n```"


@pytest.mark.parametrize(
    ("behaviour", "answer", "followed"),
    [
        ("answer briefly", "Canberra.", True),
        ("answer briefly", LONG, False),
        ("answer in detail", LONG, True),
        ("show the steps", "1. Take half.\n2. Add it.\n", True),
        ("show the steps", "It is 12.", False),
        ("give an example", "For example, 7 is one.", True),
        ("answer in german", "Das ist die Hauptstadt und sie ist nicht Sydney.", True),
        ("answer in german", "That is the capital and it is not Sydney.", False),
        ("answer in german", "Canberra.", None),
        ("answer in japanese", "首都はキャンベラです。", True),
        ("use metric units", "It is 12 km from here.", True),
        ("use metric units", "It is 7 miles, or 12 km.", False),
        ("use metric units", "It is far.", None),
        ("answer as table", "| a | b |\n|---|---|\n", True),
        ("answer as json", '```json\n{"a": 1}\n```', True),
        ("write the code in python", CODE, True),
        ("write the code in rust", CODE, False),
        ("write the code in rust", "No code.", None),
        ("comment the code", CODE, True),
        ("give code without explanation", CODE, True),
        ("give code without explanation", "Text.", None),
        ("use plain words", "Anything.", None),
    ],
)
def test_an_answers_text_shows_what_it_does(behaviour, answer, followed):
    assert known_rules()[Rule("do", behaviour)].followed("How?", answer) is followed


def test_to_avoid_is_kept_where_the_text_does_not_show_it():
    rule = known_rules()[Rule("avoid", "apologise")]
    assert rule.followed("How?", "I'm sorry, no.") is False
    assert rule.followed("How?", "No.") is True


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("le chat est dans la maison et il ne dort pas", "french"),
        ("el perro no es de la casa y los gatos son una familia", "spanish"),
        ("Столица Австралии", "russian"),
        ("澳大利亚的首都", "chinese"),
        ("12345 67", None),
    ],
)
def test_a_language_is_told_by_its_script_or_its_commonest_words(text, language):
    assert language_of(text) == language
