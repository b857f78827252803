"""The claim that matters: sets of records that differ in one give counts no further apart than is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_client.chat.conversations import Exchange, talk_of
from oel_client.extract import weigh
from oel_client.news import learn_good_news
from oel_client.privacy.counts import TURNS, add_up, said_by_game, said_by_talks
from oel_client.privacy.noise import LESSONS, sensitivity
from oel_shared.chat.vocabulary import ChatLesson, Rule
from oel_shared.environments.registry import open_environment
from oel_shared.model import Message
from oel_shared.play import ModelPolicy, Play, play
from oel_shared.types import NO_ACTION, Outcome, State, Trajectory, Turn
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel

ACTIONS = ("go east", "open chest", "take key", "take cup")
YES, NO, END = "Well done.", "Nothing.", "The end."
GAME_LESSONS = [
    Lesson.of("toy", "open chest"),
    Lesson.of("toy", "take {any}"),
    Lesson.of("toy", "take {any}", "fresh"),
    Lesson.of("toy", "go east", advice="avoid"),
]
CHAT_LESSONS = [
    ChatLesson(topic, Rule(advice, behaviour)).on_the_wire()
    for topic, advice, behaviour in [
        ("facts", "do", "answer briefly"),
        ("chat", "do", "answer briefly"),
        ("facts", "do", "answer in german"),
        ("maths", "do", "show the steps"),
    ]
]


def distance(one: Counter, other: Counter) -> int:
    """L1."""
    return sum(abs(one[key] - other[key]) for key in one | other)


def game(name: str, seed: int, success: bool, *turns: tuple[str, str, tuple[str, ...]]) -> Trajectory:
    done = tuple(Turn(State("Win.", "A room.", legal), action, feedback) for action, feedback, legal in turns)
    return Trajectory("toy", name, "base", seed, done, Outcome(success, "over"))


@st.composite
def turns(draw):
    legal = tuple(draw(st.lists(st.sampled_from(ACTIONS), min_size=1, unique=True)))
    return draw(st.sampled_from(legal)), draw(st.sampled_from([YES, NO, END, f"{NO} {YES}"])), legal


games = st.builds(
    lambda name, seed, success, some: game(name, seed, success, *some),
    st.sampled_from("abc"),
    st.integers(0, 5),
    st.booleans(),
    st.lists(turns(), max_size=12),
)


def of_games(played) -> Counter:
    return add_up(said_by_game(GAME_LESSONS, one) for one in played)


@settings(max_examples=300, deadline=None)
@given(st.lists(games, max_size=12), games, games)
def test_one_game_in_place_of_another_moves_the_counts_no_further_than_is_said(others, one, other):
    assert distance(of_games([one, *others]), of_games([other, *others])) <= sensitivity(len(GAME_LESSONS))
    assert distance(of_games([one, *others]), of_games(others)) <= len(GAME_LESSONS)


def test_real_play_keeps_to_the_bound_too_whichever_game_is_another():
    environment = open_environment("scripted?rooms=3&slack=20")
    plays = [Play(one, n) for n, one in enumerate(environment.games("device", 24, 3))]
    policy = ModelPolicy(ScriptedModel(lambda prompt, choice: 2.0 * choice.startswith(("take", "open"))))
    played = [done.trajectory for done in play(plays, policy, "base", explore=True)]
    assert len({one.outcome.success for one in played}) == 2
    lessons = [Lesson.of("scripted", text) for text in ("open chest", "take {any}", "go {onward}", "look")]

    def counts(some) -> Counter:
        return add_up(said_by_game(lessons, one) for one in some)

    kept, whole = played[:20], counts(played[:20])
    moved = [
        distance(whole, counts([*kept[:place], other, *kept[place + 1 :]]))
        for place in range(len(kept))
        for other in played[20:]
    ]
    assert 0 < max(moved) <= sensitivity(len(lessons))


def test_the_exact_counts_do_not_keep_to_it_so_they_cannot_be_what_is_noised():
    """One more win may teach what good news is, and then every other game says something else."""
    long = [
        game("a", n, False, *[("open chest", YES, ACTIONS)] * 5, ("go east", NO, ACTIONS)) for n in range(9)
    ]
    win = game("b", 0, True, ("go east", YES, ACTIONS))
    loss = replace(win, outcome=Outcome(False, "over"))

    def exact(played) -> Counter:
        evidence = weigh(GAME_LESSONS[0], 0, played, learn_good_news(played)).evidence
        return Counter({name: getattr(evidence, name) for name in TURNS})

    assert distance(exact([*long, win]), exact([*long, loss])) > sensitivity(LESSONS)
    assert distance(of_games([*long, win]), of_games([*long, loss])) <= sensitivity(len(GAME_LESSONS))


def test_a_game_says_one_thing_of_a_lesson_however_long_it_is():
    won = game("a", 1, True, *[("open chest", YES, ACTIONS)] * 50)
    assert said_by_game(GAME_LESSONS[:1], won) == {GAME_LESSONS[0].id: "supports"}
    lost = replace(won, outcome=Outcome(False, "over"))
    assert said_by_game(GAME_LESSONS[:1], lost) == {GAME_LESSONS[0].id: "contradictions"}
    elsewhere = game("a", 1, True, *[("go east", YES, ("go east", "take cup"))] * 3)
    assert said_by_game(GAME_LESSONS[:1], elsewhere) == {}


def test_a_lost_turn_says_nothing_of_a_lesson():
    assert said_by_game(GAME_LESSONS, game("a", 1, True, (NO_ACTION, NO, ACTIONS))) == {}
    declined = game("a", 1, True, ("go east", NO, ACTIONS))
    assert GAME_LESSONS[0].id in said_by_game(GAME_LESSONS, declined)


def test_over_many_games_the_drawn_turns_keep_the_proportions_of_all_turns():
    # Followed in one turn of four; good news is far from it.
    some = [("open chest", NO, ACTIONS), *[("go east", NO, ACTIONS)] * 3]
    said = add_up(said_by_game(GAME_LESSONS[:1], game("a", n, False, *some)) for n in range(4000))
    followed = said[GAME_LESSONS[0].id, "contradictions"]
    assert 850 < followed < 1150  # a fixed sequence of lots; 5.5 standard deviations about 1000


LONG = "This goes on and on, and on. " * 20
said = st.sampled_from(
    ["What is rain?", "What is 12 * 14?", "too long", "shorter please", "in German please", "more detail please",
     "show me the steps", "thanks!", "No, that is wrong.", "and snow?"]
)  # fmt: skip
answered = st.sampled_from([LONG, "Water.", "Wasser ist nass.", "1. 12*10\n2. 12*4\n"])
talks = st.lists(st.tuples(said, answered), min_size=1, max_size=6)


def talk(number: int, some) -> tuple[Exchange, ...]:
    """Told apart by their first words, as talks of people are."""
    messages = []
    for place, (question, answer) in enumerate(some):
        text = f"{question} ({number})" if place == 0 else question
        messages += [Message("user", text), Message("assistant", answer)]
    return tuple(replace(turn, release="base") for turn in talk_of(messages).turns)


def of_talks(some) -> Counter:
    exchanges = [turn for number, one in some for turn in talk(number, one)]
    return add_up(said_by_talks(CHAT_LESSONS, exchanges, "base"))


@settings(max_examples=150, deadline=None)
@given(st.lists(talks, max_size=6), talks, talks)
def test_one_talk_in_place_of_another_moves_the_counts_no_further_than_is_said(others, one, other):
    rest = list(enumerate(others))
    moved = distance(of_talks([*rest, (90, one)]), of_talks([*rest, (91, other)]))
    assert moved <= sensitivity(len(CHAT_LESSONS))


def test_a_talk_that_was_taken_up_again_is_one_talk_and_says_one_thing_of_a_lesson():
    start = ("What is rain?", LONG, "too long")
    both = {}
    for rest in (("Water.", "thanks", "."), (LONG, "shorter please", "Water.", "thanks", ".")):
        messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate((*start, *rest))]
        for turn in talk_of(messages).turns:
            both[turn.id] = replace(turn, release="base")
    (only,) = said_by_talks(CHAT_LESSONS[:1], list(both.values()), "base")
    assert only.keys() == {CHAT_LESSONS[0].id}


@pytest.mark.parametrize("release", ["r2", "r3"])
def test_a_talk_counts_under_the_release_that_answered(release):
    turns = talk(1, [("What is rain?", LONG), ("too long", "Water."), ("thanks", ".")])
    later = [turns[0], *(replace(turn, release="r2") for turn in turns[1:])]
    assert len(said_by_talks(CHAT_LESSONS, later, release)) == (release == "r2")
