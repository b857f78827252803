from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from oel_server.learner import adapter, compute, objective
from oel_server.learner.compute import cast_once
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.learner.loss import choice_reverse_kl
from oel_server.learner.objective import Objective
from oel_server.learner.packing import ChoiceState, choice_log_probs, score_states
from oel_server.learner.prefix import answer_states, read_prefixes
from oel_server.learner.rollout import write_answers
from oel_server.learner.train import _batch, distil, learning_rate
from oel_server.learner.update import Update
from oel_shared.errors import StateError

CHOICES = ("g", "t", "l")
TAUGHT = [
    ChoiceItem(f"place {c}:", f"place {c}, remember xyz:", CHOICES, group)
    for c, group in zip("abcdef", ["odd", "even"] * 3, strict=True)
]
KEPT = [ChoiceItem(f"other {c}:", f"other {c}:", CHOICES, "kept") for c in "pqrs"]
CONFIG = DistilConfig(steps=12, batch_states=4, lr=5e-3, warmup=2, rank=4, alpha=8, device="cpu", threads=1)


def gap(student_master, teacher_master, items) -> float:
    """Mean KL from plain calls in float32."""
    with torch.no_grad():
        s = choice_log_probs(
            student_master.model, [student_master.encode(i.student, i.choices) for i in items]
        )
        t = choice_log_probs(
            teacher_master.model, [teacher_master.encode(i.teacher, i.choices) for i in items]
        )
    return sum(choice_reverse_kl(a, b).item() for a, b in zip(s, t, strict=True)) / len(items)


def random_update(master) -> Update:
    dice = torch.Generator().manual_seed(3)
    return Update(
        {
            name: 0.2 * torch.randn(weight.shape, generator=dice)
            for name, weight in master.model.named_parameters()
            if name.endswith("proj.weight")
        }
    )


def same(a: Update, b: Update) -> bool:
    return a.deltas.keys() == b.deltas.keys() and all(torch.equal(a.deltas[n], b.deltas[n]) for n in a.deltas)


def answer_gap(student_master, teacher_master, items) -> float:
    """Mean KL over the tokens of answers from plain calls over the whole vocabulary."""
    gaps = []
    for item in items:
        (s,) = answer_states(student_master.model, [student_master.encode(item.student, (item.answer,))])
        (t,) = answer_states(teacher_master.model, [teacher_master.encode(item.teacher, (item.answer,))])
        heads = student_master.model.get_output_embeddings(), teacher_master.model.get_output_embeddings()
        log_s, log_t = (torch.log_softmax(head(x), -1) for head, x in zip(heads, (s, t), strict=True))
        gaps.append((log_s.exp() * (log_s - log_t)).sum(-1).mean().item())
    return sum(gaps) / len(gaps)


def test_answers_are_distilled_token_by_token(make_master):
    master = make_master()
    items = [AnswerItem(f"ask {c}:", f"ask {c}, remember xyz:", f"so {c}{c}", "talk") for c in "abcdef"]
    result = distil(master, items, CONFIG)
    student = make_master(result.update)
    assert result.gap_before == pytest.approx(answer_gap(master, master, items), rel=0.1)
    assert result.gap_after == pytest.approx(answer_gap(student, master, items), rel=0.15, abs=0.01)
    assert result.gap_after < 0.7 * result.gap_before


def test_a_question_is_answered_anew_by_the_student_each_time_that_a_step_meets_it(make_master, monkeypatch):
    """And what the teacher says of the answer it says without the LoRA that is trained."""
    monkeypatch.setattr(compute, "_is_fast", lambda device: False)
    seen: list[tuple] = []
    real = Objective.answered

    def answered(self, batch, time):
        found = real(self, batch, time)
        with torch.no_grad():
            loss = found.losses(batch)[0].item() if batch else 0.0
        seen.append((time, found.students[0].choices[0], found.teachers[0], loss))
        return found

    monkeypatch.setattr(Objective, "answered", answered)
    question = AnswerItem("ask a:", "ask a, remember xyz:", None, "talk")
    config = replace(CONFIG, steps=3, batch_states=1, lr=0.05, warmup=1, answer_tokens=9, gap_items=1)
    result = distil(make_master(), [question], config)
    assert [time for time, *_ in seen] == [0, 1, 2, 3]
    assert [loss for *_, loss in seen] == pytest.approx([result.gap_before, *result.losses])
    master = make_master()
    by_round_start = []
    for time, answer, teacher, _ in seen:
        taught = ChoiceState(master.tokens(question.teacher), (answer,))
        torch.testing.assert_close(teacher, answer_states(master.model, [taught])[0].detach())
        dice = [np.random.default_rng((config.seed, time, 0))]
        prefixes = read_prefixes(master.model, [master.tokens(question.student)])
        (tokens,) = write_answers(master.model, prefixes, 9, 1.0, dice, master.end)
        by_round_start.append((*tokens, master.end))
    # The student that has not learnt yet is the round-start model; later it is another.
    answers = [answer for _, answer, *_ in seen]
    assert answers[:2] == by_round_start[:2]
    assert answers[2:] != by_round_start[2:]
    assert answers[0] != answers[1]


def test_a_step_keeps_nothing_of_what_was_seen_of_the_prompts(make_master, monkeypatch):
    """Its attention's gradient once held on to all layers, in a ring that Python cannot see: 100 MB a step."""
    seen: list[weakref.ref] = []
    real = objective.read_prefixes

    def read(*asked):
        found = real(*asked)
        seen.extend(weakref.ref(x) for layer in found.layers.values() for x in layer)
        return found

    monkeypatch.setattr(objective, "read_prefixes", read)
    question = AnswerItem("ask a:", "ask a, remember xyz:", None, "talk")
    distil(make_master(), [question], replace(CONFIG, steps=3, batch_states=1, answer_tokens=3))
    gc.collect()
    assert seen
    assert not [x for x in seen if x() is not None]


def test_answers_cannot_be_written_by_split_weights(make_master):
    question = AnswerItem("ask a:", "ask a, remember xyz:", None, "talk")
    with pytest.raises(ValueError, match="1 items have no answer"):
        distil(make_master(), [question], replace(CONFIG, shard=True))


def test_questions_are_learnt_and_the_gap_is_that_of_the_first_answers(make_master):
    items = [AnswerItem(f"ask {c}:", f"ask {c}, remember xyz:", None, "talk") for c in "abcdef"]
    result = distil(make_master(), [*TAUGHT, *items], replace(CONFIG, answer_tokens=4, focus=0.5))
    assert result.groups.keys() == {"odd", "even", "talk"}
    assert all(g.after < g.before for g in result.groups.values())


def test_choices_and_answers_are_learnt_together(make_master):
    answers = [AnswerItem(f"ask {c}:", f"ask {c}, remember xyz:", f"so {c}{c}", "talk") for c in "abcdef"]
    result = distil(make_master(), [*TAUGHT, *answers], CONFIG)
    assert result.groups.keys() == {"odd", "even", "talk"}
    assert all(g.after < g.before for g in result.groups.values())


def test_items_that_no_step_meets_and_nothing_measures_are_not_scored(make_master, monkeypatch):
    scored: list[int] = []
    real = objective.score_states

    def score(model, states):
        scored.append(len(states))
        return real(model, states)

    monkeypatch.setattr(objective, "score_states", score)
    many = [*TAUGHT, *KEPT]
    config = replace(CONFIG, steps=2, batch_states=2, gap_items=1)
    result = distil(make_master(), many, config)
    met = {k for step in range(2) for k in _batch(len(many), step, config)}
    assert len(met) == 4
    assert scored in ([4], [5]), "the one that is measured may be met too"
    assert all(loss >= 0 for loss in result.losses)


def test_base_plus_update_plays_closer_to_the_teacher_by_as_much_as_the_result_says(make_master):
    master = make_master()
    result = distil(master, TAUGHT, CONFIG)
    student = make_master(result.update)
    assert result.gap_before == pytest.approx(gap(master, master, TAUGHT), rel=0.1)
    assert result.gap_after == pytest.approx(gap(student, master, TAUGHT), rel=0.15, abs=0.01)
    assert result.gap_after < 0.5 * result.gap_before
    assert result.groups.keys() == {"odd", "even"}
    assert all(g.after < g.before for g in result.groups.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_cpu_learns_and_gives_the_master_back(make_master, tmp_path):
    on_cpu = distil(make_master(), TAUGHT, CONFIG)
    master = make_master()
    on_gpu = distil(master, TAUGHT, replace(CONFIG, device="cuda"), tmp_path)
    assert master.model.device.type == "cpu"
    assert on_gpu.gap_before == pytest.approx(on_cpu.gap_before, rel=0.1)
    assert on_gpu.gap_after == pytest.approx(on_cpu.gap_after, rel=0.3, abs=0.01)
    assert all(delta.device.type == "cpu" for delta in on_gpu.update.deltas.values())


def test_the_teacher_of_round_two_is_the_round_start_state_and_not_the_base(make_master):
    base = make_master()
    master = make_master(random_update(base))
    true_gap, gap_to_base = gap(master, master, TAUGHT), gap(master, base, TAUGHT)
    assert abs(gap_to_base - true_gap) > 0.5 * true_gap, "the two teachers must differ for this test"
    result = distil(master, TAUGHT, replace(CONFIG, steps=1, batch_states=len(TAUGHT), temperature=1.0))
    assert result.gap_before == pytest.approx(true_gap, rel=0.1)
    assert result.losses[0] == pytest.approx(true_gap, rel=0.1)


def test_in_round_two_an_item_without_a_lesson_starts_without_loss(make_master):
    master = make_master(random_update(make_master()))
    config = replace(CONFIG, steps=1, batch_states=5, retention=1e6)
    result = distil(master, [*KEPT, replace(TAUGHT[0], weight=1e-3)], config)
    # Not zero to the last bit: how bf16 rounds depends on what else is in the row. Taught items start at 0.6.
    assert result.losses[0] == pytest.approx(0.0, abs=5e-3)


def test_distillation_leaves_the_master_as_it_was(make_master):
    master = make_master(random_update(make_master()))
    before = master.digest()
    names = list(master.model.state_dict())
    distil(master, TAUGHT, CONFIG)
    assert master.digest() == before
    assert list(master.model.state_dict()) == names


def test_the_update_is_float32_and_covers_the_linear_layers_of_the_blocks_only(make_master):
    master = make_master()
    deltas = distil(master, TAUGHT, CONFIG).update.deltas
    linear = {n for n, w in master.model.named_parameters() if ".layers." in n and w.ndim == 2}
    assert deltas.keys() == linear
    assert all(d.dtype == torch.float32 and d.abs().max() > 0 for d in deltas.values())


class Interrupted(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_weights_of_an_uninterrupted_one(make_master, tmp_path):
    config = replace(CONFIG, checkpoint_every=4)
    items = TAUGHT + KEPT
    whole = distil(make_master(), items, config)

    def stop(step: int, total: int, loss: float, seconds: float) -> None:
        if step == 6:
            raise Interrupted

    master = make_master()
    with pytest.raises(Interrupted):
        distil(master, items, config, tmp_path, stop)
    steps = []
    resumed = distil(master, items, config, tmp_path, lambda step, *_: steps.append(step))
    assert steps == list(range(5, 13))
    assert resumed.losses == whole.losses
    assert same(resumed.update, whole.update)


def test_a_finished_run_called_again_takes_no_step(make_master, tmp_path):
    first = distil(make_master(), TAUGHT, CONFIG, tmp_path)
    steps = []
    again = distil(make_master(), TAUGHT, CONFIG, tmp_path, lambda *step: steps.append(step))
    assert steps == []
    assert same(first.update, again.update)


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(make_master, tmp_path):
    master = make_master()
    distil(master, TAUGHT, CONFIG, tmp_path)
    for items, config in [(TAUGHT[1:], CONFIG), (TAUGHT, replace(CONFIG, lr=1e-4))]:
        with pytest.raises(StateError, match="another run"):
            distil(master, items, config, tmp_path)
    with pytest.raises(StateError, match="another run"):
        distil(make_master(random_update(master)), TAUGHT, CONFIG, tmp_path)
    (tmp_path / "distil.pt").write_bytes(b"cut short")
    with pytest.raises(StateError, match="cannot be read"):
        distil(master, TAUGHT, CONFIG, tmp_path)


def test_the_same_seed_gives_the_same_update_and_another_seed_another(make_master):
    first, again = (distil(make_master(), TAUGHT, CONFIG).update for _ in range(2))
    assert same(first, again)
    assert not same(first, distil(make_master(), TAUGHT, replace(CONFIG, seed=1)).update)


def test_retention_items_hold_the_student_to_its_round_start_play(make_master):
    master = make_master()
    items = TAUGHT + KEPT
    drift = [
        gap(make_master(distil(master, items, replace(CONFIG, steps=30, retention=r)).update), master, KEPT)
        for r in (0.0, 1.0)
    ]
    assert drift[1] < 0.5 * drift[0]


def test_a_round_without_lessons_is_refused_before_anything_is_computed(make_master):
    with pytest.raises(StateError, match="nothing to distil"):
        distil(make_master(), KEPT, CONFIG)
    with pytest.raises(StateError, match="nothing to distil"):
        distil(make_master(), [*KEPT, replace(TAUGHT[0], weight=0.0)], CONFIG)


def test_the_learning_rate_rises_over_the_warmup_and_falls_in_a_line_to_nothing():
    config = replace(CONFIG, steps=10, warmup=2, lr=1.0)
    rates = [learning_rate(step, config) for step in range(10)]
    assert rates == pytest.approx([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_every_epoch_holds_each_item_once_in_an_order_of_its_own():
    config = replace(CONFIG, batch_states=5)
    epochs = [_batch(10, 2 * e, config) + _batch(10, 2 * e + 1, config) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_fused_layers_give_what_pefts_own_give(make_master, monkeypatch):
    master = make_master()
    state = master.encode("place a:", CHOICES)

    def scores() -> torch.Tensor:
        with adapter.lora(master.model, 4, 8.0, seed=1) as student:
            dice = torch.Generator().manual_seed(2)
            for weight in adapter.trained(student).values():
                weight.data = 0.3 * torch.randn(weight.shape, generator=dice)
            (found,) = choice_log_probs(master.model, [state])
            found.sum().backward()
            return torch.cat([found, *(w.grad.flatten() for w in adapter.trained(student).values())])

    fused = scores()
    monkeypatch.setattr(adapter, "_fuse", lambda layer: None)
    torch.testing.assert_close(fused, scores(), atol=1e-4, rtol=1e-4)


def test_the_masters_are_untouched_by_the_weights_that_products_are_made_with(make_master):
    master = make_master()
    before = {name: weight.clone() for name, weight in master.model.named_parameters()}
    with cast_once(master.model, master.model.device):
        pass
    after = dict(master.model.named_parameters())
    assert all(
        weight.dtype == torch.float32 and torch.equal(weight, before[n]) for n, weight in after.items()
    )


def test_casting_once_gives_what_casting_in_every_pass_gives(make_master):
    master = make_master()
    states = [master.encode("place a:", CHOICES)]
    plain = score_states(master.model, states)
    with cast_once(master.model, master.model.device):
        assert torch.equal(score_states(master.model, states)[0], plain[0])
