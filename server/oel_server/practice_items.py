"""A file of practice items: what `oel server distil` is taught apart from a round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from oel_shared.errors import ConfigError
from oel_shared.wire import Frozen

if TYPE_CHECKING:
    from oel_server.learner.items import Item

Text = Annotated[str, Field(min_length=1)]


class _Prompts(Frozen):
    student: Text
    teacher: Text
    group: str = "items"
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class _Choice(_Prompts):
    kind: Literal["choice"]
    choices: Annotated[tuple[Text, ...], Field(min_length=2)]


class _Answer(_Prompts):
    kind: Literal["answer"]
    answer: Text | None = None
    """None: the student writes one in each step that meets the item."""


_LINE: TypeAdapter[_Choice | _Answer] = TypeAdapter(Annotated[_Choice | _Answer, Field(discriminator="kind")])


def read_items(path: Path) -> list[Item]:
    """Practice items, one JSON object a line: kind "choice" with choices, or "answer" with an answer or without.

    Raises: ConfigError for a line that is no item, or two that teach different things for one prompt.
    """
    try:
        # Not splitlines: it breaks at characters that may stand in a JSON string.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): give a file of practice items") from error
    items = {n: _item(path, n, line) for n, line in enumerate(lines, 1) if line.strip()}
    if not items:
        raise ConfigError(f"{path} holds no practice item: expected one JSON object a line")
    _check_agreement(path, items)
    return list(items.values())


def _item(path: Path, number: int, line: str) -> Item:
    from oel_server.learner import AnswerItem, ChoiceItem

    try:
        read = _LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise ConfigError(f"{path} line {number}: {where}: {first['msg']}") from error
    fields: Mapping[str, Any] = read.model_dump(exclude={"kind"})
    return ChoiceItem(**fields) if isinstance(read, _Choice) else AnswerItem(**fields)


def _check_agreement(path: Path, items: Mapping[int, Item]) -> None:
    taught: dict[str, tuple[int, str]] = {}
    for number, item in items.items():
        before, teacher = taught.setdefault(item.student, (number, item.teacher))
        if teacher != item.teacher:
            raise ConfigError(
                f"{path}: lines {before} and {number} have the same student prompt and different teachers: "
                "they contradict each other, keep one"
            )
