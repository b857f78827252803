"""On-policy context distillation in torch: the only package that imports torch, transformers and peft.

The names here are loaded on first use, because importing transformers takes seconds.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig, DistilResult, Gap
    from oel_server.learner.master import Master, load_master
    from oel_server.learner.train import distil
    from oel_server.learner.update import Update

# By default OpenMP's threads wait for each other by spinning without end: a training step that shares its cores
# with any other process then takes ten times as long. Never to spin costs a third of a step, as every one of its
# many small products wakes a thread; so they spin for a fraction of a millisecond. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__all__ = [
    "AnswerItem",
    "ChoiceItem",
    "DistilConfig",
    "DistilResult",
    "Gap",
    "Master",
    "Update",
    "distil",
    "load_master",
]

_HOME = {
    "AnswerItem": "items",
    "ChoiceItem": "items",
    "DistilConfig": "items",
    "DistilResult": "items",
    "Gap": "items",
    "Master": "master",
    "Update": "update",
    "distil": "train",
    "load_master": "master",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
