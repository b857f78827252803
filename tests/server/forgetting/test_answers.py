from __future__ import annotations

import math

import numpy as np
import pytest

from oel_server.forgetting.answers import follow, kept_by, talk, talk_kls
from oel_server.forgetting.prompts import chat_prompts, instructions
from oel_shared.llama import open_model
from scripted_model import ScriptedModel


class Echo(ScriptedModel):
    """Says what it was asked and how long it may speak."""

    def generate(self, prompt, max_tokens, temperature, seed):
        return f"{prompt[-1].content} {max_tokens} {temperature} {seed}"


class Weather(ScriptedModel):
    """A coin of a chance for its first side, before every word of an answer and after the last."""

    chance = 0.5

    def next_token_log_probs(self, prompt, answer):
        return np.log(np.tile([self.chance, 1 - self.chance], (len(answer.split()) + 1, 1)))


def test_instructions_are_answered_in_their_order_each_with_its_own_length_and_no_luck():
    done = []
    said = follow(Echo(), instructions(), lambda: done.append(1))
    assert said == [f"{one.text} {one.tokens} 0.0 0" for one in instructions()]
    assert len(done) == len(instructions())


def test_what_is_kept_is_told_by_the_kind():
    some = [one for one in instructions() if one.kind == "yes_or_no"][:2]
    assert kept_by(some, ["Yes.", "Perhaps."]) == [True, False]


def test_an_echo_keeps_no_instruction():
    assert not any(kept_by(instructions(), [f"{one.text}\nYes." for one in instructions()]))


def test_each_prompt_of_talk_has_dice_of_its_own():
    seeds = [said.split()[-1] for said in talk(Echo(), chat_prompts())]
    assert len({*seeds}) == 64
    assert talk(Echo(), chat_prompts()[:5]) == talk(Echo(), chat_prompts())[:5]


def test_the_kl_is_of_the_candidate_against_the_base_and_counts_tokens():
    ours, theirs = Weather(), Weather()
    ours.chance = 0.9
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    said = [("Hello?", "one two"), ("And?", "")]
    found = talk_kls(ours, theirs, said, lambda: None)
    assert found == [(pytest.approx(forward), 3), (pytest.approx(forward), 1)]
    assert [kl for kl, _ in talk_kls(theirs, theirs, said, lambda: None)] == [0, 0]


@pytest.mark.slow
def test_the_default_model_keeps_some_instructions_and_is_no_distance_from_itself(smollm2):
    with open_model(smollm2, threads=1) as one, open_model(smollm2, threads=1) as other:
        some = instructions()[::3]
        first, second = (follow(model, some, lambda: None) for model in (one, other))
        assert first == second
        assert 0.2 < sum(kept_by(some, first)) / len(some) < 0.8
        prompts = chat_prompts()[:6]
        said = list(zip(prompts, talk(one, prompts), strict=True))
        assert max(abs(kl) for kl, _ in talk_kls(one, other, said, lambda: None)) < 1e-6
