from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from oel_shared.environments import open_environment
from oel_shared.llama import open_model
from oel_shared.model import Message
from oel_shared.play import INVALID, Play, play
from oel_shared.sampling import sample
from oel_shared.self_test import _TASKS, self_test
from oel_shared.text_play import (
    OBSERVATION_CHARACTERS,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    TextPolicy,
    chosen,
    spoken,
    text_prompt,
)
from oel_shared.types import NO_ACTION, State
from scripted_model import ScriptedModel

MOVES = ("go east", "go west", "take key")


@dataclass
class Author(ScriptedModel):
    """Writes its answers one after the other, the last again and again; keeps what it was asked."""

    answers: Sequence[str] = ()
    prompts: list[Sequence[Message]] = field(default_factory=list)
    settings: list[tuple[float, int, float, int]] = field(default_factory=list)

    def generate(self, prompt, max_tokens, temperature, seed, top_p=1.0, top_k=0):
        self.prompts.append(prompt)
        self.settings.append((temperature, seed, top_p, top_k))
        return self.answers[min(len(self.prompts), len(self.answers)) - 1]


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("I go. [go east]", "go east"),
        ("[go east] or better [take key]", "take key"),
        ("Possible: [take key]. I take [dance].", None),
        ("[ Go  East ]", "go east"),
        ("go east", None),
        ("", None),
        ("<think>[go west] is bad</think>[go east]", "go east"),
        ("[go west] is bad</think> So: [go east]", "go east"),
        ("<think>maybe [go east]", None),
        ("<think>[go east]</think>Done.", None),
    ],
)
def test_the_last_action_in_brackets_counts_and_thoughts_do_not(answer: str, action: str | None) -> None:
    assert chosen(answer, MOVES) == action


def test_thoughts_are_taken_out_however_often_they_come() -> None:
    assert spoken("<think>a</think>b<think>c</think> d ") == "d"
    assert spoken("plain") == "plain"


def test_a_turn_is_one_user_message_that_names_what_is_possible() -> None:
    (message,) = text_prompt(State("Get rich.", "A key\nlies here.", MOVES, ("go west",)))
    assert message.role == "user"
    assert "[go east], [go west], [take key]" in message.content
    assert "A key lies here." in message.content
    assert "go west" in message.content.split("last actions: ")[1].split("\n")[0]


def test_a_long_observation_is_cut_and_what_is_possible_is_not() -> None:
    (message,) = text_prompt(State("Get rich.", "word " * 10_000, MOVES))
    assert len(message.content) < OBSERVATION_CHARACTERS + 300
    assert "[go east], [go west], [take key]" in message.content
    (usual,) = text_prompt(State("Get rich.", "x" * OBSERVATION_CHARACTERS, MOVES))
    assert "x" * OBSERVATION_CHARACTERS in usual.content


def test_a_long_observation_does_not_end_a_play(make_tiny) -> None:
    with open_model(make_tiny("F32", context=8192), threads=1) as model:
        (chances,) = TextPolicy(model, max_tokens=4).probabilities([State("g", "word " * 10_000, MOVES)])
    assert chances.shape == (len(MOVES),)


def test_what_is_written_is_done_with_the_papers_sampling_and_fresh_dice() -> None:
    model = Author(answers=["[take key]"])
    policy = TextPolicy(model, seed=3)
    first, second = policy.probabilities([State("g", "o", MOVES)] * 2)
    assert first.tolist() == second.tolist() == [0.0, 0.0, 1.0]
    (one, other) = model.settings
    assert (one[0], one[2], one[3]) == (TEMPERATURE, TOP_P, TOP_K) == (0.7, 0.8, 20)
    assert one[1] != other[1]
    again = Author(answers=["[take key]"])
    TextPolicy(again, seed=3).probabilities([State("g", "o", MOVES)] * 2)
    assert again.settings == model.settings


def test_an_answer_without_an_action_costs_the_turn_and_the_player_is_told_once() -> None:
    (game,) = open_environment("scripted?steps=3").games("device", 1, seed=1)
    model = Author(answers=["Hm.", "[look]", "[inventory]"])
    (done,) = play([Play(game, 0)], TextPolicy(model))
    lost, looked, last = done.trajectory.turns
    assert (lost.action, lost.feedback) == (NO_ACTION, INVALID)
    assert (looked.action, last.action) == ("look", "inventory")
    assert [INVALID in prompt[0].content for prompt in model.prompts] == [False, True, False]
    assert last.state.history == ("look",)
    assert done.trajectory.outcome.reason == "out of turns (3)"


def test_who_never_names_an_action_runs_out_of_turns() -> None:
    (game,) = open_environment("scripted?steps=4").games("device", 1, seed=1)
    (done,) = play([Play(game, 0)], TextPolicy(Author(answers=["No idea."])))
    assert [turn.action for turn in done.trajectory.turns] == [NO_ACTION] * 4
    assert not done.trajectory.outcome.success
    assert done.trajectory.outcome.reason == "out of turns (4)"


def test_a_model_that_answers_what_is_plain_plays_in_text_whatever_it_thinks_before() -> None:
    answers = [f"<think>Not [{a[0]}].</think>[{wanted}]" for _, _, a, wanted in _TASKS]
    found = self_test(Author(answers=answers))
    assert (found.kind, found.asked, found.legal, found.right) == ("text", 8, 8, 8)


def test_two_slips_are_forgiven_three_are_not() -> None:
    answers = [f"[{wanted}]" for *_, wanted in _TASKS]
    assert self_test(Author(answers=["?", "?", *answers[2:]])).kind == "text"
    found = self_test(Author(answers=["?", "?", "?", *answers[3:]]))
    assert (found.kind, found.asked, found.legal) == ("choice", 3, 0)


def test_a_model_that_repeats_the_list_of_actions_is_no_text_player() -> None:
    parrot = Author(answers=[", ".join(f"[{action}]" for action in actions) for _, _, actions, _ in _TASKS])
    found = self_test(parrot)
    assert (found.kind, found.legal, found.right) == ("choice", 3, 0)


def test_only_the_likeliest_tokens_are_drawn() -> None:
    log_probs = np.log(np.array([0.05, 0.4, 0.3, 0.2, 0.05], np.float32))
    rng = np.random.default_rng(0)
    drawn = {
        (p, k): {sample(log_probs, 1.0, rng, p, k) for _ in range(300)}
        for p, k in ((1.0, 0), (1.0, 2), (0.5, 0), (0.1, 0), (0.8, 4))
    }
    assert drawn[1.0, 0] == {0, 1, 2, 3, 4}
    assert drawn[1.0, 2] == drawn[0.5, 0] == {1, 2}
    assert drawn[0.1, 0] == {1}
    assert drawn[0.8, 4] == {1, 2, 3}
    assert sample(log_probs, 0.0, rng, 0.1, 1) == 1
