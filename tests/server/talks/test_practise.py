from __future__ import annotations

from dataclasses import dataclass, field

from made_reports import knowledge_of
from oel_server.talks.practise import (
    HELD,
    HELD_FORM,
    HELD_TEMPERATURE,
    QUESTIONS,
    RULES_SHOWN,
    PracticeTalk,
    ask,
    held_questions,
    practise_talks,
    questions_for,
    rules_for,
    talk_count,
    talk_prompt,
)
from oel_server.teach import answer_items
from oel_shared.chat.topics import topic_of
from oel_shared.wire import TOPICS, Lesson
from scripted_model import ScriptedModel

BRIEFLY = Lesson.of("chat", "answer briefly", "facts")
EXAMPLE = Lesson.of("chat", "give an example", "facts")
NO_EMOJI = Lesson.of("chat", "use emoji", "facts", "avoid")


@dataclass
class Listening(ScriptedModel):
    prompts: list[str] = field(default_factory=list)
    temperatures: set[float] = field(default_factory=set)

    def generate(self, prompt, max_tokens, temperature, seed):
        self.prompts.append(prompt[-1].content)
        self.temperatures.add(temperature)
        return f"answer {len(self.prompts)}"


def test_the_current_release_answers_own_questions_and_is_told_no_rule():
    model, done = Listening(), []
    talks = practise_talks(model, knowledge_of(BRIEFLY), 1, 0, lambda: done.append(1))
    assert model.temperatures == {1.0, HELD_TEMPERATURE}
    assert not any("briefly" in prompt for prompt in model.prompts)
    assert len(done) == talk_count(knowledge_of(BRIEFLY), 1, 0) == len(talks.practice) + len(talks.screening)
    about = [talk.topic for talk in talks.practice]
    assert about.count("facts") == QUESTIONS["practice"]
    assert all(about.count(topic) == HELD for topic in TOPICS if topic != "facts")
    assert [talk.topic for talk in talks.screening] == ["facts"] * QUESTIONS["screening"]


def test_without_a_lesson_about_talks_questions_of_every_topic_hold_general_talk_in_place():
    knowledge = knowledge_of(Lesson.of("coin", "right"))
    talks = practise_talks(Listening(), knowledge, 1, 0, lambda: None)
    held = [topic for topic in TOPICS for _ in range(HELD)]
    assert [talk.topic for talk in talks.practice] == [*held, *["form"] * HELD_FORM]
    assert talks.screening == ()
    items = answer_items(talks.practice, knowledge, lambda messages: messages[-1].content)
    assert not any(item.has_lesson for item in items)
    taught = PracticeTalk("facts", "Where is Oslo?", "In Norway.")
    (item,) = answer_items([taught], knowledge_of(BRIEFLY), lambda messages: messages[-1].content)
    assert item.has_lesson
    # What is held must not drown the few answers that are taught, nor they it.
    assert {held.weight for held in items} == {item.weight}
    assert item.weight > 1  # beside a state


def test_a_topic_is_either_taught_or_held():
    knowledge = knowledge_of(BRIEFLY)
    taught = {topic for topic, _ in questions_for(knowledge, "practice", 1, 0)}
    held = {topic for topic, _ in held_questions(knowledge, 1, 0)}
    assert (taught, held) == ({"facts"}, {*TOPICS, "form"} - {"facts"})


def test_a_wish_for_form_about_a_taught_topic_is_not_held_as_it_was():
    everything = knowledge_of()
    about_facts = [
        q for r in range(1, 4) for _, q in held_questions(everything, r, 0) if topic_of(q) == "facts"
    ]
    assert any("please" in q or "enough" in q for q in about_facts)  # wishes for form that read as facts
    rounds = [held_questions(knowledge_of(BRIEFLY), r, 0) for r in range(1, 4)]
    assert not [q for held in rounds for _, q in held if topic_of(q) == "facts"]


def test_the_three_uses_ask_different_things():
    knowledge = knowledge_of(BRIEFLY)
    asked = [set(questions_for(knowledge, use, 1, 0)) for use in ("practice", "screening", "gate")]
    assert sum(map(len, asked)) == len(set.union(*asked))


def test_rules_are_told_after_the_question_and_only_where_they_apply():
    knowledge = knowledge_of(BRIEFLY, NO_EMOJI)
    (told,) = talk_prompt("Where is Oslo?", rules_for("facts", knowledge))
    assert told.content == "Where is Oslo? Please answer briefly and do not use emoji."
    assert rules_for("maths", knowledge) == ()
    (plain,) = talk_prompt("Where is Oslo?")
    assert plain.content == "Where is Oslo?"


def test_no_more_rules_are_told_than_a_small_model_keeps_in_mind():
    assert len(rules_for("facts", knowledge_of(BRIEFLY, EXAMPLE, NO_EMOJI))) == RULES_SHOWN


def test_what_is_not_in_the_closed_list_is_never_told():
    assert rules_for("facts", knowledge_of(Lesson.of("chat", "insult the user", "facts"))) == ()


def test_a_question_has_the_same_dice_told_or_not_and_others_when_asked_again():
    seeds: list[int] = []

    class Noting(ScriptedModel):
        def generate(self, prompt, max_tokens, temperature, seed):
            seeds.append(seed)
            return ""

    asked = [("facts", "Where is Oslo?"), ("facts", "Where is Rome?"), ("facts", "Where is Oslo?")]
    ask(Noting(), asked, 1, lambda: None)
    assert len(set(seeds)) == 3
    ask(Noting(), asked[1:2], 1, lambda: None, knowledge_of(BRIEFLY))
    assert seeds[3] == seeds[1]
