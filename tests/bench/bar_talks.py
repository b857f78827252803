"""Bar `talks`: rules from talks reach the weights, with the default model and no user's text.

Devices report two rules about talks. A server that has nothing but its own questions does a whole round: it
answers them with the base, is told the rules, distils token by token, packs, screens and judges. Then the file
that screening picked and the base answer every question that neither learner nor screening saw, four times
each, with the same random numbers; the base told the rules stands beside them. Passes if the file is nearer to
the told base (the gate's own test) and keeps the rules more often than the base: the lower end of the 95 %
interval of the paired difference, over questions, above 0. About ten minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from made_reports import put, report_of
from oel_fleet.in_process import InProcessTransport
from oel_server.context import Context
from oel_server.knowledge import Knowledge
from oel_server.packaged import picked
from oel_server.round import Round
from oel_server.setup import set_up
from oel_server.stages import open_round
from oel_server.talks.judge import well_formed_share
from oel_server.talks.practise import PracticeTalk, ask, rules_for, taught_topics
from oel_server.talks.questions import questions
from oel_shared.console import progress
from oel_shared.lessons import in_words
from oel_shared.stats import paired
from oel_shared.wire import Evidence, Lesson, Topic

QUICK = False
MINUTES = 10
TIMES = 4
"""How often each question is asked."""
RULES = (
    Lesson.of("chat", "answer in one sentence", "facts"),
    Lesson.of("chat", "answer as numbered list", "planning"),
)
SURE = Evidence(episodes=30, proposals=20, supports=28, contradictions=2, declined_good=2, declined_bad=28)
SEED = int(os.environ.get("SEED", "0"))


def one_round(root: Path) -> Round:
    """Three devices that hold the rules, and a server without any environment."""
    homes = {number: root / f"device-{number}" for number in (10, 11, 12)}
    for home in homes.values():
        put(home, report_of(*((rule, SURE) for rule in RULES), family="chat", episodes=30), RULES)
    server = root / "server"
    server.mkdir()
    config = set_up(server, {"environments": (), "min_nodes": 3, "seed": SEED, "distil_steps": 60})
    return Round(server, config, InProcessTransport(server, homes), open_round(server))


def kept(talk: PracticeTalk, knowledge: Knowledge) -> float:
    """Share of the rules for a talk that its answer keeps, of those that its text can show."""
    shown = [r.followed(talk.question, talk.answer) for r in rules_for(talk.topic, knowledge)]
    told = [one for one in shown if one is not None]
    return sum(told) / len(told) if told else 0.0


def answers(ours: Context, knowledge: Knowledge) -> dict[str, list[PracticeTalk]]:
    """Every question that was kept back, answered by the base, the base told the rules, and the file."""
    asked: list[tuple[Topic, str]] = [
        (topic, question)
        for topic in sorted(taught_topics(knowledge))
        for question in questions(topic, "gate", 1, 10_000, SEED)
        for _ in range(TIMES)
    ]
    found: dict[str, list[PracticeTalk]] = {}
    with ours.models, progress("answering", 3 * len(asked)) as advance:
        base, file = ours.load_current(), ours.load(picked(ours.folder))
        for name, model, told in (("base", base, None), ("told", base, knowledge), ("file", file, None)):
            found[name] = ask(model, asked, SEED + 77, advance, told)
    return found


def judged(found: Mapping[str, Sequence[PracticeTalk]], knowledge: Knowledge) -> dict[str, Any]:
    """How often each answerer keeps the rules, and the file's difference to the base."""
    rates = {name: [kept(talk, knowledge) for talk in talks] for name, talks in found.items()}
    differences = [file - base for file, base in zip(rates["file"], rates["base"], strict=True)]
    interval = paired(differences, [talk.question for talk in found["base"]], SEED)
    return {
        "answers": len(differences),
        "kept": {name: round(sum(rate) / len(rate), 4) for name, rate in rates.items()},
        "by_topic": {
            topic: {
                name: round(mean(rates[name][k] for k, talk in enumerate(talks) if talk.topic == topic), 4)
                for name, talks in found.items()
            }
            for topic in sorted(taught_topics(knowledge))
        },
        "well_formed": {name: round(well_formed_share(talks), 4) for name, talks in found.items()},
        "difference": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def main() -> None:
    """A round, then the questions."""
    with tempfile.TemporaryDirectory() as folder:
        ours = one_round(Path(folder))
        ended = ours.run()
        gate = ours.folder.result("gate")
        if gate is None:
            finish("talks", False, seed=SEED, reason=ended["reason"], precheck=ours.folder.result("precheck"))
        distilled, knowledge = ours.folder.expect("distil"), ours.knowledge()
        figures = judged(answers(ours, knowledge), knowledge)
    finish(
        "talks",
        bool(gate["released"]) and figures["low"] > 0,
        seed=SEED,
        rules=[in_words(rule) for rule in RULES],
        gap_before=distilled["gap_before"],
        gap_after=distilled["gap_after"],
        gate=gate["overall"],
        **figures,
    )


if __name__ == "__main__":
    main()
