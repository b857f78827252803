from __future__ import annotations

from oel_shared.prompts import HISTORY_SHOWN, OBSERVATION_CHARACTERS, prompt
from oel_shared.types import State

STATE = State(
    goal="Find and take the coin.",
    observation="-= Attic =-\n\nYou are  in an attic.",
    actions=("go west", "open trunk"),
    history=("look", "go east", "go north", "examine wall"),
)


def user(state: State, hints=()) -> str:
    messages = prompt(state, hints)
    assert [message.role for message in messages] == ["system", "user"]
    return messages[1].content


def test_a_prompt_holds_goal_observation_and_the_last_commands():
    text = user(STATE)
    assert STATE.goal in text
    assert "-= Attic =- You are in an attic." in text
    assert ", ".join(STATE.history[-HISTORY_SHOWN:]) in text
    assert STATE.history[0] not in text


def test_the_legal_actions_are_not_listed():
    assert not any(action in user(STATE) for action in STATE.actions)


def test_a_hint_stands_behind_all_that_the_player_sees():
    text = user(STATE, ["Open it."])
    assert text.index("Open it.") > max(text.index("attic"), text.index("examine wall"))
    assert user(STATE) != text


def test_without_hints_teacher_and_student_see_the_same():
    assert prompt(STATE) == prompt(STATE, ())


def test_long_observations_are_cut():
    long = State("Win.", "word " * 1000, ("look",))
    assert len(user(long)) < OBSERVATION_CHARACTERS + 200


def test_the_first_turn_says_that_nothing_was_done():
    assert "none" in user(State("Win.", "A room.", ("look",)))
