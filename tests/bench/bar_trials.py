"""Bar `trials`: paired trials tell good lessons from idle and bad ones, and better play comes of it.

Devices play two families, extract, try what they found and report, all with the client's own code; the server's
merge makes two knowledges of the same reports, one as it is and one without the trials. The counts are extraction's
own and are fooled (`_planted`): what they praise most causes nothing, or harm. Asked is whether

- the trials rank the planted lessons as they truly are (Spearman; ties in the truth keep it below 1);
- knowledge chosen with trials wins more games of the final split than knowledge chosen by counts alone, in pairs.

`DEAF=1` is the negative control: the player heeds no hint, so trials can tell nothing and the bar must fail.

`MODEL=default` does the same with the default model on the demo's two TextWorld families: about an hour on two idle
cores. There counts fool nobody by design, and the planted lessons are judged by hand (`TEXTWORLD`).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from _bar import finish
from _planted import truth, weigh

from oel_client import extract as extraction
from oel_client.extract import Found
from oel_client.installation import installed
from oel_client.news import learn_good_news
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_client.trials import MAX_PAIRS, run_trials, verdict
from oel_client.trials_store import Tally, TrialStore
from oel_server.knowledge import Knowledge
from oel_server.knowledge.choose import NO_EFFECT
from oel_server.knowledge.merge import merge
from oel_server.knowledge.pooling import lift_bounds, pooled, strength, trial_bounds
from oel_shared.console import progress, say
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL
from oel_shared.environments.registry import open_environment
from oel_shared.evaluate import Evaluation, evaluate, plays_in
from oel_shared.lessons import in_words
from oel_shared.llama import open_model
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Policy, RandomLegal
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson
from scripted_model import ScriptedModel
from tiny_models import write_tiny

QUICK = True
MINUTES = 1
GOAL_RANK = 0.8
GOAL_EACH = 4
"""Planted lessons of each kind."""
MIN_DEVICES = 3
UNTRIED = {"trials_won": 0, "trials_lost": 0, "trials_tied": 0}

TEXTWORLD = {
    Lesson.of("coin_collector", "take coin"): 1,
    Lesson.of("coin_collector", "go {onward}"): 1,
    Lesson.of("cooking", "take {named} from fridge"): 1,
    Lesson.of("cooking", "prepare meal"): 1,
    Lesson.of("coin_collector", "examine {any}", "fresh"): 0,
    Lesson.of("coin_collector", "drop {any}", "fresh"): 0,
    Lesson.of("cooking", "examine oven", "fresh"): 0,
    Lesson.of("cooking", "examine stove", "fresh"): 0,
    Lesson.of("coin_collector", "take coin", "legal", "avoid"): -1,
    Lesson.of("coin_collector", "go {onward}", "legal", "avoid"): -1,
    Lesson.of("cooking", "take {named} from fridge", "legal", "avoid"): -1,
    Lesson.of("cooking", "eat {named}"): -1,
}
"""Judged by hand, before any of them was tried."""


@dataclass(frozen=True)
class World:
    """Where it all happens."""

    environments: tuple[str, ...]
    truth: Mapping[Lesson, int]
    opened: Callable[[Path], AbstractContextManager[LanguageModel]]
    devices: int
    episodes: int
    """Of each environment and device."""
    budget: int
    """Episodes that a device spends on trials at most."""
    final_plays: int
    """Of each environment."""


QUICK_WORLD = World(
    ("_planted:Mill", "_planted:Forge"),
    truth(),
    lambda home: nullcontext(ScriptedModel(weigh)),
    5,
    48,
    800,
    256,
)
SLOW_WORLD = World(
    DEFAULT_ENVIRONMENTS,
    TEXTWORLD,
    lambda home: open_model(installed(home).model, installed(home).adapter, 2),
    3,
    16,
    200,
    96,
)


@dataclass(frozen=True)
class Device:
    """What became of one device."""

    received: list[ReceivedReport]
    texts: dict[str, Lesson]
    tallies: dict[str, Tally]
    episodes: int
    """Spent on trials."""
    fixed: int
    """What as many lessons had cost with `MAX_PAIRS` pairs each, both plays of each pair played."""


def learn(home: Path, world: World, model_file: str, seed: int) -> Device:
    """A device from nothing to its reports, trials included."""
    given = {"model": model_file, "environments": world.environments, "threads": 2, "share": "auto"}
    config, _ = set_up(home, given, seed)
    store = DeviceStore(home)
    deals = deal(store, world.environments, world.episodes, seed, say)
    with (
        world.opened(home) as model,
        progress(f"{home.name}: playing", sum(len(one.plays) for one in deals)) as advance,
    ):
        play_deals(store, deals, model, "base", advance)
        found = [*extract_reports(home, store, model, config).found]
        tried = [*found, *planted(store, world.truth, found)]
        store.replace_lessons("base", tried, "for the trials")
        with progress(f"{home.name}: trying", world.budget) as advance:
            done = run_trials(home, model, config, world.budget, advance, say)
        reported = extract_reports(home, store, model, config).reported
    return Device(
        [ReceivedReport(home.name, one.report) for one in reported],
        {item.lesson.id: item.lesson for item in found},
        TrialStore(home).tallies("base"),
        done.episodes,
        2 * MAX_PAIRS * len(tried),
    )


def planted(store: DeviceStore, truth: Mapping[Lesson, int], found: Sequence[Found]) -> list[Found]:
    """The planted lessons that extraction did not come upon or did not believe, with their honest counts.

    They are tried like the others. They are not reported.
    """
    trajectories = [trajectory for _, trajectory in store.trajectories("base")]
    good_news = learn_good_news(trajectories)
    missing = [lesson for lesson in truth if lesson not in {item.lesson for item in found}]
    return [
        extraction.weigh(lesson, 0, [t for t in trajectories if t.family == lesson.family], good_news)
        for lesson in missing
    ]


def without_trials(one: ReceivedReport) -> ReceivedReport:
    """The same report with counts alone."""
    lessons = tuple(
        item.model_copy(update={"evidence": item.evidence.model_copy(update=UNTRIED)})
        for item in one.report.lessons
    )
    return ReceivedReport(one.node_id, one.report.model_copy(update={"lessons": lessons}))


def by_trials(tally: Tally) -> float:
    """Where a lesson stands, as the merge has it: by its lower bound, last of all what surely loses."""
    none = Evidence(episodes=0, proposals=0, supports=0, contradictions=0)
    counts = {"trials_won": tally.won, "trials_lost": tally.lost, "trials_tied": tally.tied}
    low, high = trial_bounds(none.model_copy(update=counts))
    return high - 1 if high < NO_EFFECT else low


def by_counts(devices: Sequence[Device], lesson: Lesson) -> float:
    """Where the counts put a lesson: its strength; last of all what they do not believe."""
    seen = [
        item.evidence
        for device in devices
        for one in device.received
        for item in one.report.lessons
        if item.id == lesson.id
    ]
    evidence = pooled(seen)
    low, _ = lift_bounds(evidence)
    return strength(evidence) if low > 0 else low - 1


def summed(tallies: Sequence[Mapping[str, Tally]], lesson: Lesson) -> Tally:
    """The pairs of all devices."""
    mine = [one.get(lesson.id, Tally()) for one in tallies]
    return Tally(sum(t.won for t in mine), sum(t.lost for t in mine), sum(t.tied for t in mine))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; 0 where one side is all alike."""
    x, y = ranks(a), ranks(b)
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def ranks(values: Sequence[float]) -> np.ndarray:
    """Mean rank of each value."""
    array = np.asarray(values)
    return np.array([np.mean(np.flatnonzero(np.sort(array) == value)) for value in array])


def held_out(world: World, home: Path, seed: int, arms: Mapping[str, Knowledge]) -> Evaluation:
    """Each knowledge as a teacher plays with it, none, and random-legal play, on the same final games."""
    families: list[Evaluation] = []
    with world.opened(home) as model:
        for spec in world.environments:
            environment = open_environment(spec, say)
            plays = plays_in(environment, "final", world.final_plays, seed)
            policies: dict[str, Policy] = {
                name: ModelPolicy(model, knowledge.used(environment.family), knowledge.silent)
                for name, knowledge in arms.items()
            }
            policies |= {"none": ModelPolicy(model), "random": RandomLegal()}
            with progress(f"final games of {environment.family}", len(plays) * len(policies)) as advance:
                families.append(evaluate(plays, policies, advance))
    return Evaluation({name: tuple(r for f in families for r in f.arms[name]) for name in families[0].arms})


def main() -> None:
    """Learn, merge twice, play."""
    seed = int(os.environ.get("SEED", "0"))
    slow = os.environ.get("MODEL") == DEFAULT_MODEL
    world = SLOW_WORLD if slow else QUICK_WORLD
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = DEFAULT_MODEL if slow else str(write_tiny(root / "tiny.gguf"))
        devices = [
            learn(root / f"device-{k}", world, model, seed * 1_000_003 + k) for k in range(world.devices)
        ]
        received = [one for device in devices for one in device.received]
        texts = {key: lesson for device in devices for key, lesson in device.texts.items()}
        arms = {
            "trials": merge(received, texts, MIN_DEVICES),
            "counts": merge([without_trials(one) for one in received], texts, MIN_DEVICES),
        }
        final = held_out(world, root / "device-0", seed, arms)
    report(world, devices, arms, final, seed, time.monotonic() - start)


def report(
    world: World,
    devices: Sequence[Device],
    arms: Mapping[str, Knowledge],
    final: Evaluation,
    seed: int,
    seconds: float,
) -> None:
    """Print every planted lesson and the verdict."""
    worth = list(world.truth.values())
    tallies = {lesson: summed([device.tallies for device in devices], lesson) for lesson in world.truth}
    for lesson, tally in tallies.items():
        kind = {1: "good", 0: "idle", -1: "bad "}[world.truth[lesson]]
        counted = by_counts(devices, lesson)
        print(
            f"{kind} {in_words(lesson):<72} counts {counted:5.2f}  {tally.won:3} {tally.lost:3} {tally.tied:3}"
        )
    rank = spearman(worth, [by_trials(tally) for tally in tallies.values()])
    alone = [
        spearman(worth, [by_trials(device.tallies.get(lesson.id, Tally())) for lesson in world.truth])
        for device in devices
    ]
    gain = final.difference("trials", "counts", "success", seed)
    spent = sum(device.episodes for device in devices)
    kinds = {name: worth.count(value) for name, value in (("good", 1), ("idle", 0), ("bad", -1))}
    verdicts = [verdict(t) for device in devices for t in device.tallies.values()]
    finish(
        "trials",
        rank >= GOAL_RANK and gain.low > 0 and min(kinds.values()) >= GOAL_EACH,
        seed=seed,
        planted=kinds,
        rank_correlation=round(rank, 3),
        rank_correlation_of_one_device=[round(r, 3) for r in alone],
        rank_correlation_of_counts=round(spearman(worth, [by_counts(devices, x) for x in world.truth]), 3),
        trial_episodes=spent,
        trial_episodes_with_fixed_pairs=sum(device.fixed for device in devices),
        lessons_tried=len(verdicts),
        verdicts={name: verdicts.count(name) for name in ("helps", "no use", "open")},
        used={name: [in_words(k.lesson) for k in known.lessons if k.used] for name, known in arms.items()},
        harmful=[in_words(k.lesson) for k in arms["trials"].lessons if k.standing == "harmful"],
        final_plays=len(final.arms["trials"]),
        won={name: round(final.mean(name, "success"), 4) for name in final.arms},
        trials_less_counts=[round(x, 4) for x in (gain.mean, gain.low, gain.high)],
        goals={"rank_correlation": GOAL_RANK, "trials_less_counts": "lower end of its 95 % interval above 0"},
        seconds=round(seconds, 1),
    )


if __name__ == "__main__":
    main()
