"""From practice prompts and knowledge to a better master: what the distil stage does around the learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from oel_server.merge import Knowledge
from oel_server.practise import PracticePrompt
from oel_shared.lessons import hints
from oel_shared.model import Message
from oel_shared.prompts import prompt

if TYPE_CHECKING:
    from oel_server.learner.items import DistilItem

Render = Callable[[Sequence[Message]], str]


def distil_items(prompts: Sequence[PracticePrompt], knowledge: Knowledge, render: Render) -> list[DistilItem]:
    """Each prompt as the student sees it and as the teacher sees it: the same, with the lessons that apply.

    Where none applies the teacher is the student's own round-start self, which holds it in place.
    """
    # Imported here, as it brings torch: a round that ends before it trains needs none.
    from oel_server.learner.items import DistilItem

    return [
        DistilItem(
            student=render(prompt(p.state)),
            teacher=render(prompt(p.state, hints(p.state, knowledge.used(p.family)))),
            choices=p.state.actions,
            group=p.family,
        )
        for p in prompts
    ]
