"""Practice on disk, so that a killed round need not play again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zstandard

from oel_server.practise import Practice, PracticePrompt
from oel_server.talks.practise import PracticeTalk, Talks
from oel_shared import atomic
from oel_shared.environment import Game
from oel_shared.play import Play, Played
from oel_shared.types import Outcome, State, Trajectory, Turn


def save_practice(path: Path, practice: Practice) -> None:
    """Write plays and prompts; the server's own games, never a device's."""
    value = {
        "played": [asdict(p) for p in practice.played],
        "prompts": [asdict(p) for p in practice.prompts],
        "screening": [asdict(p) for p in practice.screening],
        "talks": asdict(practice.talks),
    }
    atomic.write_bytes(path, _packed(value))


def load_practice(path: Path, games: Mapping[str, Game]) -> Practice:
    """What `save_practice` wrote. Raises: KeyError if a game is not in `games`."""
    value = _unpacked(path)
    played = tuple(_played(p) for p in value["played"])
    return Practice(
        plays=tuple(Play(games[p.trajectory.game], p.trajectory.seed) for p in played),
        played=played,
        prompts=tuple(_prompt(p) for p in value["prompts"]),
        screening=tuple(_prompt(p) for p in value["screening"]),
        talks=Talks(
            *(tuple(PracticeTalk(**t) for t in value["talks"][part]) for part in ("practice", "screening"))
        ),
    )


def load_prompts(path: Path) -> tuple[PracticePrompt, ...]:
    """The prompts for the learner alone of what `save_practice` wrote."""
    return tuple(_prompt(p) for p in _unpacked(path)["prompts"])


def save_played(path: Path, played: Sequence[Played]) -> None:
    """Write plays of the server's own games."""
    atomic.write_bytes(path, _packed([asdict(p) for p in played]))


def load_played(path: Path) -> list[Played]:
    """What `save_played` wrote; nothing where there is no such file."""
    return [_played(p) for p in _unpacked(path)] if path.exists() else []


def _packed(value: object) -> bytes:
    return zstandard.ZstdCompressor().compress(json.dumps(value).encode())


def _unpacked(path: Path) -> Any:
    return json.loads(zstandard.ZstdDecompressor().decompress(path.read_bytes()))


def _played(value: Mapping[str, Any]) -> Played:
    t = value["trajectory"]
    turns = tuple(Turn(_state(x["state"]), x["action"], x["feedback"]) for x in t["turns"])
    trajectory = Trajectory(t["family"], t["game"], t["release"], t["seed"], turns, Outcome(**t["outcome"]))
    return Played(trajectory, value["score"], tuple(value["rewards"]), tuple(value["chances"]))


def _prompt(value: Mapping[str, Any]) -> PracticePrompt:
    return PracticePrompt(value["family"], value["game"], _state(value["state"]))


def _state(value: Mapping[str, Any]) -> State:
    return State(value["goal"], value["observation"], tuple(value["actions"]), tuple(value["history"]))
