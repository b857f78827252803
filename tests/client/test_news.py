from __future__ import annotations

from oel_client.news import MIN_SUCCESSES, good_news_soon, learn_good_news, sentences
from oel_shared.lessons import SOON
from oel_shared.types import Outcome, State, Trajectory, Turn

POINT = "Your score has just gone up by one point."


def episode(*feedbacks: str, success: bool, family: str = "coin") -> Trajectory:
    turns = tuple(Turn(State("Win.", "Here.", ("wait",)), "wait", text) for text in feedbacks)
    return Trajectory(family, "game", "base", 0, turns, Outcome(success, "closing"))


WON = episode("You look.", f"You take the coin. {POINT}", success=True)
LOST = episode("You look.", "You wait. Time passes.", success=False)


def test_a_sentence_that_closes_coin_wins_is_recognised_in_the_middle_of_a_recipe():
    good_news = learn_good_news([WON, WON, LOST])
    recipe = episode(
        "Taken.", f"You slice the carrot. {POINT}", "Taken.", "Dropped.", success=False, family="x"
    )
    assert POINT in good_news
    assert good_news_soon(recipe, good_news) == (True, True, False, False)


def test_what_closes_failures_is_not_good_news():
    assert not learn_good_news([LOST] * 5)
    bad = learn_good_news([WON] * 3 + [episode("Time passes.", success=False)] * 3)
    assert "Time passes." not in bad


def test_a_sentence_that_closes_successes_and_failures_alike_is_not_good_news():
    tired = "You are tired."
    won, lost = episode(f"{POINT} {tired}", success=True), episode(tired, success=False)
    assert learn_good_news([won] * 4 + [lost] * 4) == {POINT}


def test_one_failure_in_many_does_not_spoil_good_news():
    lost = [episode(POINT, success=False)] + [LOST] * 9
    assert learn_good_news([WON] * 4 + lost) >= {POINT}
    spoilt = [episode(POINT, success=False)] * 5 + [LOST] * 5
    assert POINT not in learn_good_news([WON] * 4 + spoilt)


def test_a_sentence_is_believed_after_as_many_successes_as_it_takes_and_not_before():
    assert POINT in learn_good_news([WON] * MIN_SUCCESSES + [LOST])
    assert not learn_good_news([WON] * (MIN_SUCCESSES - 1) + [LOST])


def test_a_sentence_of_few_successes_is_left_out():
    rare = [episode("The cat purrs.", success=True)] * 2
    assert learn_good_news([WON] * 8 + rare) == {POINT, "You take the coin."}


def test_only_the_closing_turn_teaches():
    early = [episode("The bell rings.", "You win.", success=True)] * 5
    assert learn_good_news(early) == {"You win."}


def test_closing_banners_are_no_sentences():
    assert sentences("You win!  *** The End ***") == {"You win!"}
    assert sentences("One. Two? Three! four") == {"One.", "Two?", "Three!", "four"}
    assert sentences("") == frozenset()


def test_good_news_counts_for_the_actions_just_before_it():
    far = episode("a.", "b.", "c.", "d.", POINT, "e.", success=True)
    heard = good_news_soon(far, frozenset({POINT}))
    assert heard == (False, False, True, True, True, False)
    assert sum(heard) == SOON


def test_an_episode_without_turns_teaches_nothing():
    assert learn_good_news([episode(success=True)] * 3) == frozenset()
    assert good_news_soon(episode(success=True), frozenset({POINT})) == ()
