"""Lessons at work: which legal actions a lesson means in a state, and how that is said to a model.

A template is an action with slots: `take {goal}`. A slot stands for one or more words and says what they are:

    {any}     anything
    {goal}    a thing that the goal names
    {named}   a thing that the latest text names
    {onward}  a direction that does not undo the last move
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from oel_shared.types import State, TeacherContext
from oel_shared.wire import Evidence, Lesson

SLOTS = ("any", "goal", "named", "onward")
MOST_SLOTS = 4
"""Matching n of them to a text of L characters may take L^n steps, and a template can be made to take them all."""
HINTS_SHOWN = 1
"""Lessons put into one prompt: the best-supported one that applies. More confuse a small model (lab log)."""
ACTIONS_NAMED = 8
"""A hint that lists more actions than this says too little to be worth its tokens."""

_SPOKEN = {"any": "something", "goal": "the goal", "named": "what you see", "onward": "onward"}
SOON = 3
"""Good news counts for an action if it comes with its feedback or that of the next two actions."""

_OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east", "up": "down", "down": "up"}


def matching_actions(lesson: Lesson, state: State) -> tuple[str, ...]:
    """The legal actions that the lesson advises in this state; empty where it does not apply.

    To avoid some is to take one of the others: a small model does what it is told not to (lab log).
    """
    pattern, slots = _compiled(lesson.template)
    matching = tuple(
        action
        for action in state.actions
        if (found := pattern.fullmatch(action))
        and all(_fits(slot, value, state) for slot, value in zip(slots, found.groups(), strict=True))
        and not (lesson.cue == "fresh" and action in state.history)
    )
    if lesson.advice == "do" or not matching:
        return matching
    return tuple(action for action in state.actions if action not in matching)


def advised_actions(lesson: Lesson, state: State) -> tuple[str, ...]:
    """What it advises here; empty where it does not apply, or where every action is as good."""
    advised = matching_actions(lesson, state)
    return () if len(advised) == len(state.actions) else advised


def lift(evidence: Evidence) -> float:
    """How much more often good news followed it than what was done instead; smoothed by one of each.

    Rounded, so that counts in the same proportion tie, whatever the machine's last digit is.
    """
    followed = (evidence.supports + 1) / (evidence.supports + evidence.contradictions + 2)
    declined = (evidence.declined_good + 1) / (evidence.declined_good + evidence.declined_bad + 2)
    return round(followed - declined, 12)


def hints(state: State, lessons: Sequence[Lesson], silent: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The lessons that apply here, best first as given, as sentences for `prompts.prompt`.

    Args:
        silent: ids of lessons that the model follows unasked; where one applies, nothing more is said.
    """
    said: list[str] = []
    for lesson in lessons:
        actions = matching_actions(lesson, state)
        if 0 < len(actions) <= ACTIONS_NAMED and len(actions) < len(state.actions):
            if lesson.id in silent:
                break
            said.append(hint(actions))
        if len(said) == HINTS_SHOWN:
            break
    return tuple(said)


def told(
    state: State,
    lessons: Sequence[Lesson],
    silent: frozenset[str] = frozenset(),
    context: TeacherContext = "relevant",
) -> tuple[str, ...]:
    """What a player with lessons at hand is told in a state: `hints`, or `listing` where context is `all`."""
    return hints(state, lessons, silent) if context == "relevant" else listing(lessons, silent)


def listing(lessons: Sequence[Lesson], silent: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """All lessons of a family as one short text, the same in every state; nothing if all of them are silent.

    One that is silent stays in the list beside others, as what it says goes before what they say. That lessons
    may be wrong is said in the papers' prompt too.
    Source: OEL, arXiv 2603.16856.
    """
    if all(lesson.id in silent for lesson in lessons):
        return ()
    return ("Rules from earlier games, which may be wrong:", *(f"- {_rule(lesson)}" for lesson in lessons))


def _rule(lesson: Lesson) -> str:
    """A lesson as one sentence for a model, apart from any state."""
    command = re.sub(r"\{([a-z]+)\}", lambda slot: _SPOKEN[slot[1]], lesson.template)
    again = ", unless you did it before" if lesson.cue == "fresh" else ""
    if lesson.advice == "do":
        return f'If you can "{command}", choose that{again}.'
    return f'If you can "{command}", choose another command{again}.'


def hint(actions: Sequence[str]) -> str:
    """One lesson, said about the actions it means. Positive wording only: "do not" backfires (lab log)."""
    quoted = " or ".join(f'"{action}"' for action in actions)
    return f"The best command now is {quoted}. Choose {quoted}."


def in_words(lesson: Lesson) -> str:
    """The lesson for people: `cooking: when "eat meal" is possible, do it`."""
    if lesson.family == "chat":
        about = "" if lesson.cue == "chat" else f" about {lesson.cue}"
        return f'chat: in talk{about}, {lesson.advice} "{lesson.template}"'
    what = "do it" if lesson.advice == "do" else "do something else"
    again = ", unless already done" if lesson.cue == "fresh" else ""
    return f'{lesson.family}: when "{lesson.template}" is possible, {what}{again}'


def generality(template: str) -> int:
    """How much a template leaves open: a slot that may be anything counts for more than one that says what."""
    slots = re.findall(r"\{([^}]*)\}", template)
    return sum(2 if slot == "any" else 1 for slot in slots)


def is_template(text: str) -> bool:
    """Whether it can mean an action: known slots, not too many, and words with one space between them."""
    slots = re.findall(r"\{([^}]*)\}", text)
    return (
        len(slots) <= MOST_SLOTS and all(slot in SLOTS for slot in slots) and text == " ".join(text.split())
    )


def names(text: str, thing: str) -> bool:
    """Whether `text` names `thing` as whole words, whatever the case."""
    return re.search(rf"\b{re.escape(thing)}\b", text, re.IGNORECASE) is not None


@functools.cache
def _compiled(template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    parts = re.split(r"\{([a-z]+)\}", template)
    pattern = "".join("(.+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(pattern), tuple(parts[1::2])


def _fits(slot: str, value: str, state: State) -> bool:
    if slot == "goal":
        return names(state.goal, value)
    if slot == "named":
        return names(state.observation, value)
    if slot == "onward":
        return value in _OPPOSITE and value != _OPPOSITE.get(_last_direction(state), "")
    return slot == "any"


def _last_direction(state: State) -> str:
    """The direction of the last move, if the last action was one."""
    words = state.history[-1].split() if state.history else []
    return words[-1] if words and words[-1] in _OPPOSITE else ""
