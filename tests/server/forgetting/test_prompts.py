from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib.resources import files

from oel_server.forgetting.instruction_kinds import CHECKS
from oel_server.forgetting.prompts import chat_prompts, instructions, untaught_prompts
from oel_server.talks.questions import every_question
from oel_shared.wire import TOPICS


def test_there_are_at_least_200_instructions_of_every_kind_and_64_prompts_each_once():
    texts = [one.text for one in instructions()]
    assert len(texts) >= 200
    assert len(chat_prompts()) == 64
    assert len({*texts, *chat_prompts()}) == len(texts) + 64
    assert set(Counter(one.kind for one in instructions()).values()) == {9}
    assert {one.kind for one in instructions()} == set(CHECKS)


def test_nothing_that_is_asked_is_ever_practised():
    practised = {question for topic in (*TOPICS, "form") for question in every_question(topic)}
    asked = {*chat_prompts(), *(one.text for one in instructions())}
    assert not asked & practised
    # Nor is a practised question hidden in one.
    assert not [one for one in asked if any(question in one for question in practised)]


def test_wishes_for_form_that_are_practised_share_no_four_words_with_an_instruction():
    def runs(texts):
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        return {tuple(w[i : i + 4]) for w in words for i in range(len(w) - 3)}

    assert not runs(every_question("form")) & runs(one.text for one in instructions())


def test_no_task_of_an_instruction_is_about_what_wishes_for_form_are_about():
    # The last word says what it is about; its first letters tell "bicycles" and "bicycle" alike.
    tasks = tomllib.loads(files("oel_server.forgetting").joinpath("instructions.toml").read_text())["tasks"]
    about = {task.rstrip(".").split()[-1][:5] for task in tasks}
    practised = {word[:5] for text in every_question("form") for word in re.findall(r"[a-z]+", text.lower())}
    assert not about & practised


def test_general_talk_about_a_taught_topic_is_left_out():
    some = untaught_prompts(["facts"])
    assert "Why is the sky blue?" not in some
    assert "How much is 15 plus 27?" in some
    assert set(some) < set(untaught_prompts([])) == set(chat_prompts())
    assert untaught_prompts(TOPICS) == ()
