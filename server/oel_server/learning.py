"""The stages that learn: collect, merge, practise, precheck, distil. Each gives what its JSON shall hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from oel_server.context import PRACTICE, UNHEEDED, Context
from oel_server.judge import short
from oel_server.knowledge import Examined, Knowledge
from oel_server.knowledge.choose import cross_examined
from oel_server.knowledge.examine import PASSES, PLAYS_PER_GAME, examine, own_plays
from oel_server.practise import PLAYS_PER_GAME as TRIES
from oel_server.practise import PracticePrompt
from oel_server.precheck import Precheck
from oel_server.records import load_played, load_prompts, save_played, save_practice
from oel_server.stages import CHECKPOINT, Json, RoundFolder
from oel_server.talks import judge as talk_judge
from oel_server.talks.practise import Talks, ask, practise_talks, talk_count
from oel_server.teach import answer_items, distil_items, explored, follow_rates, retold, teacher_hints
from oel_shared import atomic
from oel_shared.console import progress, say
from oel_shared.errors import StateError
from oel_shared.gguf_file import sha256_file
from oel_shared.lessons import in_words
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Played, by_family

if TYPE_CHECKING:
    from oel_server.learner.items import Item

MOVED = 0.5
"""Share of an episode's states that is trained on where the config says `states = "moved"`."""
ABSORBED = 0.95
"""A lesson that the release follows unasked at this share of the turns in which it applies is absorbed."""


def collect(round: Context) -> Json:
    """Ask the devices for their reports."""
    received = round.transport.collect(round.folder.number)
    sent = round.bytes_up()
    return {
        "reports": len(received),
        "nodes": sorted({r.node_id for r in received}),
        "bytes_up": sum(sent.values()),
        "bytes_up_most": max(sent.values(), default=0),
    }


def merge_lessons(round: Context) -> Json:
    """Make one knowledge set of all reports so far."""
    knowledge = round.merged()
    _write_knowledge(round, knowledge)
    return {
        "used": sum(k.used for k in knowledge.lessons),
        "lessons": _plain(knowledge),
        "unnamed": len(knowledge.unnamed),
    }


def _write_knowledge(round: Context, knowledge: Knowledge) -> None:
    content = {"lessons": _plain(knowledge), "unnamed": dict(knowledge.unnamed)}
    atomic.write_text(round.server / "knowledge.json", json.dumps(content, indent=1) + "\n")


def _plain(knowledge: Knowledge) -> list[Json]:
    return [{**k.model_dump(mode="json"), "text": in_words(k.lesson)} for k in knowledge.lessons]


def practise(round: Context) -> Json:
    """Let the current release play fresh practice games and answer fresh questions, without lessons."""
    number, config = round.folder.number, round.config
    knowledge, model = round.merged(), round.load_current()
    with progress("practising", len(config.environments) * config.practice_games * TRIES) as advance:
        practice = round.practice_source.practise(number, ModelPolicy(model), advance)
    examined = _examine(round, practice.played)
    with progress("practising talks", talk_count(knowledge, number, config.seed)) as advance:
        talks = practise_talks(model, knowledge, number, config.seed, advance)
    practice = replace(practice, talks=talks)
    save_practice(round.practice_file, practice)
    rates = follow_rates([p.trajectory for p in practice.played], cross_examined(knowledge, examined))
    return {
        **_played_with(round),
        "families": {
            family: {
                "episodes": len(played),
                "prompts": sum(p.family == family for p in practice.prompts),
                "score": short(sum(p.score for p in played) / len(played)),
            }
            for family, played in by_family(practice.played).items()
        },
        "examined": {key: one.model_dump() for key, one in sorted(examined.items())},
        "absorbed": {key: short(rate) for key, rate in rates.items() if rate >= ABSORBED},
        "shared": round.shared.as_json(),
    }


def _examine(round: Context, practised: Sequence[Played]) -> dict[str, Examined]:
    """Play own games by chance, and ask all such plays so far of every lesson that enough devices hold."""
    number, config, knowledge = round.folder.number, round.config, round.merged()
    before = _own_plays(round, number - 1)
    games = round.games("practice", config.practice_games)
    with progress("cross-examining", len(games) * PLAYS_PER_GAME * PASSES) as advance:
        played = own_plays(games, knowledge, before, str(number), config.seed + number, advance)
    save_played(round.own_plays(number), played)
    asked = [k.lesson for k in knowledge.lessons if k.standing not in ("waiting", "unreadable")]
    return examine(asked, [*before, *played], practised)


def _own_plays(round: Context, last: int) -> list[Played]:
    """What cross-examined lessons in all rounds up to `last`."""
    return [one for n in range(1, last + 1) for one in load_played(round.own_plays(n))]


def precheck(round: Context) -> Json:
    """Play and answer again with the lessons at hand, play without each in turn: do they help?"""
    practice, knowledge, model = round.practice(), round.knowledge(), round.load_current()
    check = Precheck(practice.plays, practice.played, model, round.config.seed)
    with progress("precheck", check.episodes(knowledge)) as advance:
        harmful, knowledge = check.leave_one_out(knowledge, advance)
        compared = check.families(knowledge, advance)
    talks = _precheck_talks(model, practice.talks, knowledge, round.config.seed + round.folder.number)
    for lesson_id in talks.get("unheeded", ()):
        knowledge = knowledge.without_lesson(lesson_id, UNHEEDED)
    _write_knowledge(round, knowledge)
    # What devices shared cannot be played: whether lessons move the model there is left to the gap of distil.
    unplayed = any(teacher_hints(p, knowledge) for p in round.shared.practice().prompts)
    helps = unplayed or talks.get("helps", False) or any(c.difference.mean > 0 for c in compared.values())
    if not practice.plays and not talks:
        helps = bool(knowledge.families)  # nothing to try here at all
    return {
        "families": {family: c.as_json("without", "with") for family, c in compared.items()},
        "harmful": harmful,
        "talks": talks,
        "helps": helps,
    }


def _precheck_talks(model: LanguageModel, talks: Talks, knowledge: Knowledge, seed: int) -> Json:
    """Answer again, told the rules, with practice's random numbers; nothing where no lesson is about talks."""
    untold = talk_judge.taught_talks(talks.practice, knowledge)
    if not untold:
        return {}
    asked = [(talk.topic, talk.question) for talk in untold]
    with progress("precheck of talks", len(asked)) as advance:
        told = ask(model, asked, seed, advance, knowledge)
    return talk_judge.precheck(untold, told, knowledge)


def _played_with(round: Context) -> Json:
    """Which weights practice played, and the lessons were found to help."""
    return {
        "release": round.current.version if round.current else "base",
        "base": sha256_file(round.base),
    }


def check_practice(round: Context) -> None:
    """Are the weights that would be trained those that this round's practice and knowledge are about?

    Raises: StateError if the base file or the newest release is another by now.
    """
    now, then = _played_with(round), round.folder.result("practise") or {}
    for what in now.keys() & then.keys():
        if now[what] != then[what]:
            raise StateError(
                f"round {round.folder.number} practised with {what} {then[what]}, and now it is {now[what]}: "
                f"its knowledge is about another model. Remove {round.folder.path} and run the round again"
            )
    if round.current and round.current.base != now["base"]:
        raise StateError(
            f"release {round.current.version} stands on the base {round.current.base}, and {round.base} is "
            f"{now['base']}: set `model` back to the file that the devices have"
        )


def items_of(round: Context) -> list[Item]:
    """What a round whose precheck has ended teaches."""
    practice, knowledge, render = round.practice(), round.knowledge(), round.load_current().render
    met = explored(_own_plays(round, round.folder.number), practice, knowledge, round.config.seed)
    choices = distil_items([*practice.prompts, *practised_before(round), *met], knowledge, render)
    return [
        *choices,
        *(retold(choices) if round.config.states == "moved" else []),
        *answer_items(practice.talks.practice, knowledge, render),
    ]


def practised_before(round: Context) -> list[PracticePrompt]:
    """What earlier rounds practised with the same weights: a round that released nothing leaves its states.

    None of a game that this round keeps for screening: small families repeat games.
    """
    now = _played_with(round)
    folders = [RoundFolder(round.server, n) for n in range(1, round.folder.number)]
    same = [one for one in folders if now.items() <= (one.result("practise") or {}).items()]
    held = {prompt.game for prompt in round.practice().screening}
    return [p for one in same for p in load_prompts(one.path / PRACTICE) if p.game not in held]


def distil(round: Context) -> Json:
    """Train the round-start weights to play without lessons as they play with them."""
    return train_on(round, items_of(round), focus_of(round))


def focus_of(round: Context) -> float:
    """The share of a round's states that is trained on, see `DistilConfig.focus`."""
    return MOVED if round.config.states == "moved" else 1.0


def train_on(
    round: Context,
    items: Sequence[Item],
    focus: float = 1.0,
    forward: bool = False,
    temperature: float | None = None,
) -> Json:
    """Train the round-start weights on these items; see `DistilConfig` for what they are trained with.

    Args:
        temperature: None leaves the config's own.
    """
    # Imported here: a round that ends before this stage needs no torch.
    from oel_server.learner import DistilConfig, load_master
    from oel_server.learner import distil as train

    check_practice(round)
    say("distil: loading the master weights")
    master = load_master(round.base, round.master_path(round.current.version) if round.current else None)
    config = DistilConfig(
        steps=round.config.distil_steps,
        seed=round.config.seed,
        threads=round.config.threads,
        device=round.config.device,
        focus=focus,
        forward=forward,
    )
    if temperature is not None:
        config = replace(config, temperature=temperature)

    def on_step(done: int, total: int, loss: float, seconds: float) -> None:
        round.folder.log({"stage": "distil", "step": done, "loss": loss})
        if done % 5 == 0:
            say(
                f"distil: step {done} of {total}, loss {loss:.3f}, about {seconds * (total - done):.0f} s left"
            )

    result = train(master, items, config, round.folder.path / CHECKPOINT, on_step)
    master.update.plus(result.update).save(round.master_path(round.version))
    return {
        "items": len(items),
        "taught": sum(item.has_lesson for item in items),
        "steps": len(result.losses),
        "losses": [short(loss) for loss in result.losses],
        "gap_before": result.gap_before,
        "gap_after": result.gap_after,
        "gaps": {group: {"before": gap.before, "after": gap.after} for group, gap in result.groups.items()},
    }
