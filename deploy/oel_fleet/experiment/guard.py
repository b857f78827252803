"""How this version learns, in figures: an experiment's folder must not hold cells of two ways to learn.

Settings, the public constants of the modules below and the texts that are asked are compared, not code: a change of
code alone goes unseen.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from oel_client import extract, news, propose, session, trials
from oel_fleet.experiment import arms, chain, measure
from oel_server import config as server
from oel_server import judge, learning, practise, precheck, screen, shipping, shrink, teach
from oel_server.forgetting import answers, others, verdict
from oel_server.knowledge import choose, examine, known, merge, pooling
from oel_server.package import candidates
from oel_server.stages import Json
from oel_server.talks import judge as talk_judge
from oel_server.talks import practise as talk_practise
from oel_shared import evaluate, lessons, play, prompts
from oel_shared.errors import StateError

DECIDE: Sequence[ModuleType] = (
    session, extract, news, propose, trials, arms, chain, judge, learning, practise, precheck, screen, teach,
    answers, others, verdict, choose, examine, known, merge, pooling, candidates, shipping, shrink,
    talk_judge, talk_practise, evaluate, measure, lessons, play, prompts,
)  # fmt: skip
"""Modules whose constants decide what a device plays and proposes, what is taught, how, what is released and how
that is measured.
"""
SPEED_ONLY = ("AT_ONCE", "BATCH", "TOGETHER")
"""How many things are done together."""
NOT_PLANNED = ("context", "states", "alpha", "forgetting_margin")
"""Of the server, what no plan sets and a result depends on."""
ASKED = {"oel_server.talks": ("questions",), "oel_server.forgetting": ("instructions", "chat")}
SHOWN = 3
"""Differences that a refusal names."""


def learner() -> Json:
    """What decides how it learns and no plan names, by dotted name, as JSON gives it back."""
    # Imported here, as it brings torch.
    from oel_server.learner.items import NOT_LEARNT_FROM, DistilConfig
    from oel_server.learner.train import learning_rate

    config, planned = DistilConfig(), ("steps", "seed")
    distil = {k: v for k, v in asdict(config).items() if k not in (*NOT_LEARNT_FROM, *planned)}
    # Its schedule is code; a few of its values show which.
    distil["lr every 10 steps"] = [
        round(learning_rate(step, config), 8) for step in range(0, config.steps, 10)
    ]
    defaults = {name: server.ServerConfig.model_fields[name].default for name in NOT_PLANNED}
    found = {f"DistilConfig.{name}": value for name, value in distil.items()}
    found |= {f"ServerConfig.{name}": value for name, value in defaults.items()}
    found |= {f"{module.__name__}.{name}": value for module in DECIDE for name, value in _constants(module)}
    for package, names in ASKED.items():
        for name in names:
            text = files(package).joinpath(f"{name}.toml").read_bytes()
            found[f"{package}/{name}.toml"] = hashlib.sha256(text).hexdigest()[:12]
    again: Json = json.loads(json.dumps(found))
    return again


def check_learner(folder: Path, before: Mapping[str, object] | None, now: Mapping[str, object]) -> None:
    """May cells of a learner that is as `now` be added to those in `folder`?

    Args:
        before: the learner that the folder's plan names; None if it names none, as those of old do not.
    Raises: StateError if the folder has results of another learner, or of one that nobody knows.
    """
    if before == now or not any((folder / "cells").glob("*.json")):
        return
    advice = "Take another name, or the version that began it"
    if before is None:
        raise StateError(
            f"{folder} does not say with which learner's settings it was begun: nobody can tell whether more cells "
            f"would fit its results. {advice}"
        )
    changed = [name for name in sorted({*before, *now}) if _said(before, name) != _said(now, name)]
    told = "; ".join(f"{name} was {_said(before, name)}, now {_said(now, name)}" for name in changed[:SHOWN])
    more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    raise StateError(
        f"{folder} has results of a learner that is not today's: {told}{more}. More cells would not fit. {advice}"
    )


def _said(settings: Mapping[str, object], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "not there"


def _constants(module: ModuleType) -> list[tuple[str, object]]:
    """Those that the module itself assigns, not those that it imports."""
    names = re.findall(r"^([A-Z][A-Z_]*) = ", inspect.getsource(module), re.MULTILINE)
    values = {name: getattr(module, name) for name in names if name not in SPEED_ONLY}
    return [
        (name, value) for name, value in values.items() if isinstance(value, int | float | str | tuple | dict)
    ]
