from __future__ import annotations

import numpy as np
import pytest
import torch

from oel_server.learner.packing import choice_log_probs
from oel_server.learner.torch_model import TorchModel
from oel_shared.model import ChoiceQuery, LanguageModel, Message


def render(messages) -> str:
    return "".join(f"{m.role}:{m.content};" for m in messages)


def query(text: str, *choices: str) -> ChoiceQuery:
    return ChoiceQuery((Message("user", text),), choices)


def test_scores_are_the_masters_log_probs_of_rendered_prompts_in_order(make_master):
    master = make_master()
    model: LanguageModel = TorchModel(master, render, "cpu", batch_tokens=30)
    queries = [query("a door", "open it", "go"), query("a key", "take"), query("x" * 50, "look", "run away")]
    for q, found in zip(queries, model.score(queries), strict=True):
        with torch.no_grad():
            (exact,) = choice_log_probs(master.model, [master.encode(render(q.prompt), q.choices)])
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, exact.double().numpy(), atol=0.5, rtol=0.02)


def test_a_query_without_choices_is_refused(make_master):
    with pytest.raises(ValueError, match="at least one choice"):
        TorchModel(make_master(), render, "cpu").score([query("a door")])


def test_generation_repeats_with_its_seed_and_stops_at_its_limit(make_master):
    model = TorchModel(make_master(), render, "cpu")
    prompt = (Message("user", "hello"),)
    texts = [model.generate(prompt, 8, 1.0, seed) for seed in (0, 0, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    assert all(len(text.split()) <= 8 for text in texts)
    assert model.generate(prompt, 8, 0.0, 0) == model.generate(prompt, 8, 0.0, 5)


def test_an_answers_next_tokens_add_up_to_its_score_as_a_choice(make_master):
    master = make_master()
    model = TorchModel(master, render, "cpu")
    question = query("a door", "open it")
    rows = model.next_token_log_probs(question.prompt, "open it")
    (told,) = master.encode(render(question.prompt), question.choices).choices
    (score,) = model.score([question])
    found = sum(row[token] for row, token in zip(rows, told, strict=True))
    assert found == pytest.approx(score[0], abs=0.5)  # bf16 products
