from __future__ import annotations

from collections.abc import Sequence

import pytest

from oel_shared.environment import Game
from oel_shared.environments import open_environment
from oel_shared.errors import UsageError
from oel_shared.types import Split

WRONG = {
    "textworld:coin_colector": "Did you mean 'textworld:coin_collector'",
    "textwrld:cooking": "Did you mean 'textworld:cooking'",
    "script": "Did you mean 'scripted'",
    "": "Built in: textworld:coin_collector",
    "no.such.module:Corridor": "there is no module 'no'",
    "collections:NoSuchClass": "module 'collections' has no 'NoSuchClass'",
    "textworld:cooking?recpe=2": "Did you mean 'recipe'",
    "textworld:coin_collector?level=0": "is '0', expected a whole number from 1 to 300",
    "textworld:coin_collector?level=three": "is 'three', expected a whole number",
    "textworld:cooking?go=2": "expected one of 1, 6, 9, 12",
    "textworld:cooking?recipe=1&take=3": "expected at most 1",
    "textworld:simple?rewards=many": "expected one of dense, balanced, sparse",
    "scripted?slack=-1": "expected a whole number from 0",
    "scripted?slack": "expected option=value",
    "scripted?slack=1&slack=2": "is given twice",
    "textworld:./no/such/game.z8": "no game at no/such/game.z8",
}


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_spec_gives_one_line_that_says_what_to_do(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_environment(spec)
    assert WRONG[spec] in str(caught.value)
    assert "\n" not in str(caught.value)


class Corridor:
    """A user's own environment."""

    family = "corridor"
    public_words = frozenset({"go"})

    def __init__(self, length: str = "3") -> None:
        self.length = int(length)

    def games(self, split: Split, count: int, seed: int) -> Sequence[Game]:
        return []


def test_a_users_class_gets_the_options_as_keyword_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("my_games")
    module.__dict__["Corridor"] = Corridor
    monkeypatch.setitem(sys.modules, "my_games", module)
    opened = open_environment("my_games:Corridor?length=9")
    assert isinstance(opened, Corridor)
    assert opened.length == 9
    with pytest.raises(UsageError, match="unexpected keyword argument 'lenth'"):
        open_environment("my_games:Corridor?lenth=9")


def test_a_users_class_that_is_no_environment_is_refused() -> None:
    with pytest.raises(UsageError, match="lacks family, public_words, games"):
        open_environment("collections:Counter")
