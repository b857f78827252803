from __future__ import annotations

import pytest

from oel_server.forgetting.instruction_kinds import CHECKS, keeps

# kind, value, answers that keep it, answers that do not
CASES = (
    ("starts_with", "In short,", ["In short, it is wide.", '"In short, blue."'], ["It is, In short, wide."]),
    ("ends_with", "door", ["He closed the door.", 'She said: "Shut the Door!"'], ["door", "The door is shut."]),
    ("keyword", "friend", ["A Friend came.", "My friend."], ["We are friends.", "Nobody came."]),
    ("two_keywords", "cat and milk", ["The cat drinks Milk."], ["The cat sleeps.", "Cats like milk."]),
    ("forbidden", "snow", ["It is white and cold.", "A snowy day came."], ["The snow is cold.", "No."]),
    ("in_capitals", "river", ["RIVER", "The word is RIVER."], ["River", "r i v e r"]),
    ("in_small_letters", "RIVER", ["river", "It is river."], ["RIVER", "River", "river is RIVER"]),
    ("at_most_words", "4", ["The sea is blue.", "Blue, wide, deep"], ["It is a very wide sea.", "Blue."]),
    ("at_least_words", "4", ["The sea is blue.", "It's a well-known, old sea."], ["It's well-known, really."]),
    ("few_words", "", ["White.", "The snow is as white's."], ["Snow has the colour that is white."]),
    ("one_sentence", "", ["The sea is wide.", "Is it wide, or deep?"], ["Wide. Deep.", "The sea", "Sea."]),
    ("two_sentences", "", ["It is wide. It is deep!", "A.\nB."], ["It is wide.", "A. B. C.", "A. B", "... ."]),
    ("bullets", "", ["- a\n- b\n- c", "Here:\n- a\n\n- b\n- c"], ["- a\n- b", "* a\n* b\n* c", "-a\n-b\n-c"]),
    ("numbered", "",
     ["1. a\n2. b\n3. c", "So:\n1) a\n2) b\n3) c"], ["1. a\n2. b", "1. a 2. b 3. c", "3. a\n2. b\n1. c"]),
    ("comma_list", "",
     ["a, b, c, d", "a, b, c, and d", "a, b, c and d"], ["a, b", "a\nb, c, d, e", "a, b, c, d, e"]),
    ("json_key", "", ['{"name": "oak"}', 'So:\n```json\n{"name": "oak", "n": 1}\n```'],
     ['{"name": }', '{"n": "oak"}', "name: oak", '{"name": 3}']),
    ("quoted", "", ['"I like cake."', "“Cake!”"], ["I like cake.", '"Cake" is "good"', '""']),
    ("in_brackets", "", ["[robin]", "It is [the Nile]."], ["robin", "[this]", "[]", "[a] and [b]"]),
    ("no_commas", "", ["It is wide and deep."], ["Wide, deep and blue.", "Wide."]),
    ("digits", "", ["7", "A week has 7 days."], ["Seven.", "7 or 8"]),
    ("yes_or_no", "", ["Yes.", "no", "No, it is not."], ["Nothing is.", "It is: yes."]),
    ("question", "", ["What do you read?", '"Do you like it?"'], ["Books.", "Why? Because?", "Why?"]),
    ("exclamation", "", ["Hello!", "Welcome! Sit down."], ["Hello.", "!"]),
    ("copy", "The end is near.", ["The end is near.", '"The end is near."'],
     ["The end is near", "It says: The end is near."]),
    ("counting", "3 to 5", ["3, 4, 5", "Here: 3 4 5."], ["3, 4, 5, 6", "3, 5", "three, four, five"]),
)  # fmt: skip


def test_every_kind_is_tried():
    assert {case[0] for case in CASES} == set(CHECKS)


@pytest.mark.parametrize(("kind", "value", "answer"), [(k, v, a) for k, v, good, _ in CASES for a in good])
def test_an_answer_that_keeps_the_instruction_is_seen(kind, value, answer):
    assert keeps(kind, value, answer)


@pytest.mark.parametrize(("kind", "value", "answer"), [(k, v, a) for k, v, _, bad in CASES for a in bad])
def test_an_answer_that_breaks_the_instruction_is_seen(kind, value, answer):
    assert not keeps(kind, value, answer)


@pytest.mark.parametrize("kind", CHECKS)
def test_silence_keeps_no_instruction(kind):
    assert not keeps(kind, "3 to 5", " \n")
