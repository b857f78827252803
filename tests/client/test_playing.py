from __future__ import annotations

import json
from pathlib import Path

import pytest

from oel_client import config as settings
from oel_client.config import ClientConfig
from oel_client.playing import FILE, kind_of_play, policy_of
from oel_client.session import deal, find_lessons, play_deals
from oel_client.store import DeviceStore
from oel_shared.errors import StateError
from oel_shared.play import ModelPolicy
from oel_shared.self_test import _TASKS
from oel_shared.text_play import TextPolicy
from oel_shared.types import NO_ACTION
from scripted_model import ScriptedModel, obeys

SPEC = "scripted?rooms=3&slack=6"


class Talker(ScriptedModel):
    """Knows what is plain, takes what wins where it sees it, and else says nothing useful now and then."""

    generated = 0

    def generate(self, prompt, max_tokens, temperature, seed, top_p=1.0, top_k=0):
        self.generated += 1
        text = prompt[-1].content
        for goal, _, _, wanted in _TASKS:
            if text.startswith(goal):
                return f"[{wanted}]"
        possible = text.split("Possible actions: ")[1].split(".\n")[0].strip("[]").split("], [")
        good = [a for a in possible if a == "open chest" or a.endswith(" key")]
        return f"[{good[0]}]" if good else "" if seed % 5 == 0 else f"[{possible[seed % len(possible)]}]"


def a_device(home: Path, model: Path, **more: object) -> ClientConfig:
    config = ClientConfig.model_validate({"seed": 3, "model": str(model), "environments": (SPEC,), **more})
    home.mkdir(exist_ok=True)
    settings.write(home, config)
    assert settings.load(home) == config
    return config


def test_a_model_is_tested_once_and_its_file_decides_whether_it_is_known(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = a_device(tmp_path, tiny_llama)
    model = Talker()
    assert kind_of_play(tmp_path, config, model) == "text"
    asked = model.generated
    assert asked == 8
    assert kind_of_play(tmp_path, config, model) == "text"
    assert model.generated == asked
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_llama.read_bytes() + b"x")
    assert kind_of_play(tmp_path, a_device(tmp_path, other), ScriptedModel()) == "choice"
    known = json.loads((tmp_path / FILE).read_text())
    assert sorted(one["kind"] for one in known.values()) == ["choice", "text"]


def test_a_setting_is_taken_at_its_word_and_asks_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    model = Talker()
    for kind in ("choice", "text"):
        assert kind_of_play(tmp_path, a_device(tmp_path, tiny_llama, policy=kind), model) == kind
    assert model.generated == 0
    assert not (tmp_path / FILE).exists()
    assert isinstance(policy_of("choice", model, 0), ModelPolicy)
    assert isinstance(policy_of("text", model, 0), TextPolicy)


def test_a_damaged_file_of_tests_says_what_to_do(tmp_path: Path, tiny_llama: Path) -> None:
    config = a_device(tmp_path, tiny_llama)
    for text in ("{", "[]", '{"a": {}}', '{"a": {"kind": "song"}}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(StateError, match="Delete it"):
            kind_of_play(tmp_path, config, ScriptedModel())


def test_lessons_are_found_in_episodes_played_in_text_and_lost_turns_teach_nothing(
    tmp_path: Path, tiny_llama: Path
) -> None:
    a_device(tmp_path, tiny_llama)
    store, model = DeviceStore(tmp_path), Talker(obeys_when_asked)
    play_deals(store, deal(store, (SPEC,), 30, 3), model, "base", policy=policy_of("text", model, 3))
    turns = [turn for _, episode in store.trajectories("base") for turn in episode.turns]
    assert any(turn.action == NO_ACTION for turn in turns)
    _, found = find_lessons(store, model, "base", tmp_path)
    templates = {item.lesson.template for item in found}
    assert "take {any} key" in templates
    assert not any("none" in template for template in templates)


def obeys_when_asked(prompt: str, choice: str) -> float:
    """Points at what wins when asked what helped."""
    assert choice != NO_ACTION
    return obeys(prompt, choice) if "Your last commands" in prompt else float(choice == "open chest")
