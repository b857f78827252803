from __future__ import annotations

import dataclasses
import typing

from oel_client.extract import (
    MAX_CITES,
    MAX_LESSONS,
    Cite,
    extract,
    templates,
)
from oel_client.propose import every_action, last_action, model_proposals
from oel_shared.types import NO_ACTION, Outcome, State, Trajectory, Turn
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel

PUBLIC = frozenset(
    ["take", "open", "go", "east", "west", "from", "fridge", "chest", "with", "knife", "slice"]
)
YES, NO = "Well done.", "Nothing happens."
NEWS = frozenset({YES})


def turn(action, feedback=NO, *others, goal="Win.", observation="A room.", history=()):
    return Turn(State(goal, observation, (action, *others), history), action, feedback)


def episode(*turns: Turn, success: bool = True, game: str = "g", seed: int = 0) -> Trajectory:
    return Trajectory("toy", game, "base", seed, turns, Outcome(success, "closing"))


def naming(*named: str) -> ScriptedModel:
    """Points at these commands once it has seen an episode; else takes all alike."""
    return ScriptedModel(lambda prompt, choice: 5.0 if choice in named and "\n> " in prompt else 0.0)


# Opening is followed by good news, looking around is not, and waiting in its place brings none.
OPENED = episode(turn("go east", NO, "open chest"), turn("open chest", YES, "go west"))
WAITED = episode(turn("go west", NO, "open chest"), turn("go east", NO, "go west"), success=False, game="h")


def of(found, template, cue="legal"):
    lesson = Lesson.of("toy", template, cue)
    return next((f for f in found if f.lesson == lesson), None)


def test_only_what_the_model_named_or_good_news_came_with_becomes_a_lesson():
    found_it = episode(turn("take knife", NO, "go west"), turn("open chest", YES, "go west"))
    left_it = episode(turn("go west", NO, "take knife"), turn("go east", NO, "open chest"), success=False)
    won = [found_it, left_it]

    def named(model: ScriptedModel) -> set[str]:
        return {f.lesson.template for f in extract(won, model, PUBLIC, NEWS)}

    assert named(naming("take knife")) == {"take knife", "open chest"}
    assert named(naming("open chest")) == {"open chest"}  # neither knife nor a way: not named, no news


def test_what_good_news_came_with_is_proposed_though_the_model_passes_over_it():
    blind = naming("go east", "take a")
    four = episode(turn("go east"), turn("take a"), turn("open chest", YES), turn("go west"))
    assert model_proposals([four, four], blind, NEWS) == [("go east", "take a", "open chest")] * 2
    assert model_proposals([four], blind, frozenset()) == [("go east", "take a")]
    # Where the model names it too, it is named once.
    assert model_proposals([OPENED], naming("open chest"), NEWS) == [("open chest",)]


def test_a_command_is_not_named_just_because_its_words_are_likely():
    def likely(prompt, choice):
        return 9.0 if choice == "go east" else 1.0 if choice == "open chest" and "\n> " in prompt else 0.0

    (named,) = model_proposals([OPENED], ScriptedModel(likely), frozenset())
    assert named == ("open chest",)


def test_the_model_names_the_better_half_of_an_episodes_commands():
    four = episode(*(turn(f"take {x}") for x in "abcda"))
    assert model_proposals([four], naming("take c", "take b"), frozenset()) == [("take b", "take c")]
    three = episode(*(turn(f"take {x}") for x in "abc"))
    assert model_proposals([three], naming("take c"), frozenset()) == [("take c", "take a")]
    assert model_proposals([episode(turn("wait"))], ScriptedModel(), frozenset()) == [("wait",)]


def test_a_lost_turn_is_counted_neither_for_a_lesson_nor_against_it():
    lost = Turn(State("Win.", "A room.", ("open chest", "go west")), NO_ACTION, NO)
    before = of(extract([OPENED, WAITED], naming("open chest"), PUBLIC, NEWS), "open chest")
    won = episode(lost, *OPENED.turns)
    after = of(extract([won, WAITED], naming("open chest"), PUBLIC, NEWS), "open chest")
    assert before
    assert after.evidence == before.evidence


def test_the_model_is_asked_about_commands_of_the_episode_only():
    model = naming("open chest")
    extract([OPENED, WAITED], model, PUBLIC, NEWS)
    assert {q.choices for q in model.asked} == {("go east", "open chest")}


def test_a_failure_without_good_news_proposes_nothing():
    model = ScriptedModel()
    extract([WAITED], model, PUBLIC, NEWS)
    assert model.asked == []


def test_evidence_decides_over_the_model():
    # Named by the model, yet good news came more often where something else was done instead.
    tempted = episode(
        turn("go east", NO, "open chest"),
        *(turn(f"take {x}", NO, "open chest") for x in "abc"),
        turn("open chest", YES, "go east"),
    )
    assert not of(extract([tempted], naming("go east"), PUBLIC, NEWS), "go east")
    assert of(extract([tempted], naming("open chest"), PUBLIC, NEWS), "open chest")


def test_values_that_are_not_public_words_never_stand_in_a_template():
    secret = episode(
        turn("take zanzibar orb from fridge", YES, "go east", goal="Find the zanzibar orb."),
        turn("slice mauve yam with knife", YES, "go east", observation="You see a mauve yam."),
    )
    found = extract([secret, secret], ScriptedModel(), PUBLIC, NEWS, every_action)
    assert found
    texts = {f.lesson.template for f in found}
    assert texts == {
        "take {any} from fridge",
        "take {goal} from fridge",
        "slice {any} with knife",
        "slice {named} with knife",
    }
    words = {word for text in texts for word in text.split() if not word.startswith("{")}
    assert words <= PUBLIC


def test_a_slot_stands_for_what_the_goal_or_the_latest_text_names():
    state = State("Fetch the red onion.", "On the table: a Red Onion.", ("take red onion",))
    assert templates("take red onion", state, PUBLIC) == ["take {any}", "take {goal}", "take {named}"]
    assert templates("take onions", state, PUBLIC) == ["take {any}"]
    assert templates("open chest", state, PUBLIC) == ["open chest"]


def test_a_move_becomes_also_onward():
    state = State("Win.", "A room.", ("go east",))
    assert templates("go east", state, PUBLIC) == ["go east", "go {onward}"]
    assert "go {onward}" not in templates("take go", state, PUBLIC)


def test_onward_is_not_followed_by_turning_back():
    there = turn("go east", YES, "take cup", history=("go east",))
    back = turn("go west", NO, "take cup", history=("go east",))
    found = extract([episode(there, back)], ScriptedModel(), PUBLIC, NEWS, every_action)
    # Back is the opposite of the last move, so there the lesson does not apply at all.
    evidence = of(found, "go {onward}").evidence
    assert (evidence.supports, evidence.contradictions) == (1, 0)
    assert (evidence.declined_good, evidence.declined_bad) == (0, 0)


def test_counts_are_right_on_hand_made_episodes():
    far = ("take cup", "take pin", "take jar")
    one = episode(
        turn("open chest", YES, "go east"),  # followed, good
        turn("go east", NO, "open chest"),  # declined, no news within three turns
        *(turn(f"{a}", NO, "go east") for a in far),  # does not apply
        turn("open chest", NO, "go east"),  # followed, no news
        *(turn(f"{a}", NO, "go east") for a in far),
        turn("go east", NO, "open chest"),  # declined, good news two turns later
        turn("take cup", NO, "go east"),
        turn("take pin", YES, "go east"),
        game="one",
        seed=7,
    )
    two = episode(turn("go east", NO, "open chest"), success=False, game="two")  # declined, none
    three = episode(turn("go east", NO), success=False, game="three")  # never applies
    (found,) = [
        f
        for f in extract([one, two, three], naming("open chest"), PUBLIC, NEWS)
        if f.lesson == Lesson.of("toy", "open chest")
    ]
    e = found.evidence
    assert (e.episodes, e.proposals) == (2, 1)
    assert (e.supports, e.contradictions, e.declined_good, e.declined_bad) == (1, 1, 1, 2)
    assert found.cites == (Cite("one", 7, 0),)


def test_where_every_action_is_advised_nothing_is_learnt():
    forced = episode(turn("open chest", YES))
    assert extract([forced], ScriptedModel(), PUBLIC, NEWS, every_action) == []


def test_fresh_does_not_count_what_was_done_before():
    again = episode(
        turn("open chest", YES, "go east"),
        *(turn(f"take {x}", NO, "go east") for x in "abc"),
        turn("open chest", NO, "go east", history=("open chest",)),
    )
    waited = episode(turn("go east", NO, "open chest"), success=False)
    found = extract([again, waited], naming("open chest"), PUBLIC, NEWS)
    assert of(found, "open chest", "fresh").evidence.contradictions == 0
    assert of(found, "open chest", "legal").evidence.contradictions == 1


def test_a_repeated_command_is_proposed_once_an_episode():
    twice = episode(turn("open chest", YES, "go east"), turn("open chest", YES, "go east"))
    (found,) = [f for f in extract([twice], naming("open chest"), PUBLIC, NEWS) if f.lesson.cue == "legal"]
    assert found.evidence.proposals == 1
    assert found.evidence.supports == 2


def test_the_best_supported_come_first_and_the_rest_is_cut():
    letters = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    public = PUBLIC | frozenset(letters)
    rich = [
        episode(turn(f"take {word}", YES, "go east"), turn("go east", NO, f"take {word}"), game=word)
        for word in letters
    ]
    rich += [rich[5]] * 3
    found = extract(rich, ScriptedModel(), public, NEWS, every_action)
    assert len(found) == MAX_LESSONS
    assert found[0].lesson.template == f"take {letters[5]}"
    assert (
        extract(list(reversed(rich)), ScriptedModel(), public, NEWS, every_action)[0].lesson
        == found[0].lesson
    )


def test_no_more_turns_are_cited_than_anyone_will_read():
    found = extract([OPENED] * 30 + [WAITED], naming("open chest"), PUBLIC, NEWS)
    assert of(found, "open chest").evidence.supports == 30
    assert len(of(found, "open chest").cites) == MAX_CITES


def test_the_control_without_a_model_proposes_every_command_and_asks_nobody():
    model = ScriptedModel()
    assert every_action([OPENED, WAITED], model, NEWS) == [("go east", "open chest"), ("go west", "go east")]
    assert of(extract([OPENED, WAITED], model, PUBLIC, NEWS, every_action), "open chest")
    assert model.asked == []


def test_the_control_last_action_misses_a_lesson_that_is_not_the_last():
    key_first = episode(
        turn("open chest", YES, "go west"),
        *(turn(f"take {x}", NO, "go west") for x in "abc"),
        turn("go east", YES),
    )
    waited = episode(turn("go west", NO, "open chest"), success=False)
    games = [key_first, waited]
    assert last_action(games, ScriptedModel(), NEWS) == [("go east",), ("go west",)]
    assert not of(extract(games, ScriptedModel(), PUBLIC, NEWS, last_action), "open chest")
    assert of(extract(games, naming("open chest"), PUBLIC, NEWS), "open chest")


def test_what_extraction_reads_has_no_place_for_a_score():
    """No field of a trajectory, down to its leaves, can hold a number but the seed of its choices."""
    assert numbers_in(Trajectory) == {"Trajectory.seed"}


def test_the_seed_makes_no_difference_to_a_lesson():
    a = extract([OPENED, WAITED], naming("open chest"), PUBLIC, NEWS)
    other = [dataclasses.replace(t, seed=t.seed + 99) for t in (OPENED, WAITED)]
    b = extract(other, naming("open chest"), PUBLIC, NEWS)
    assert [(f.lesson, f.evidence) for f in a] == [(f.lesson, f.evidence) for f in b]


def numbers_in(kind: type) -> set[str]:
    """Names of the fields that may hold a number, of a dataclass and all dataclasses in it."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        for inner in leaves(hint):
            if dataclasses.is_dataclass(inner):
                found |= numbers_in(inner)
            elif inner not in (str, bool):
                found.add(f"{kind.__name__}.{name}")
    return found


def leaves(hint) -> list[type]:
    inner = [a for a in typing.get_args(hint) if a is not Ellipsis]
    return [leaf for a in inner for leaf in leaves(a)] if inner else [hint]


def test_no_word_leaves_that_is_not_public_not_even_go():
    seen = State("Win.", "A room.", ("go east",))
    assert templates("go east", seen, frozenset()) == ["{any}"]


def test_words_and_lengths_that_the_wire_refuses_never_make_a_lesson():
    seen = State("Win.", "A room.", ("Drücke Knopf",))
    assert templates("Drücke Knopf", seen, frozenset({"Drücke", "Knopf"})) == ["{any}"]
    long = " ".join(["press"] * 40)
    assert templates(long, seen, frozenset({"press"})) == []
