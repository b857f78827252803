from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oel_shared.token_trie import TokenTrie, common_prefix

PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6)


def spelled(trie: TokenTrie, place: int) -> list[int]:
    """The tokens from the first to a node, by going up."""
    found: list[int] = []
    while place >= 0:
        found.append(trie.nodes[place].token)
        place = trie.nodes[place].parent
    return found[::-1]


@given(PATHS, st.integers(0, 9))
def test_every_path_can_be_read_back_at_its_places(paths, start):
    trie = TokenTrie(start)
    for number, path in enumerate(paths, start=1):
        places = trie.add(path, [number])
        assert spelled(trie, places[-1]) == path
        assert [trie.nodes[place].position for place in places] == list(range(start, start + len(path)))


@given(PATHS)
def test_what_paths_share_is_there_once_and_parents_come_first(paths):
    trie = TokenTrie(0)
    for number, path in enumerate(paths, start=1):
        trie.add(path, [number])
    beginnings = {tuple(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    assert len(trie.nodes) == len(beginnings)
    assert all(node.parent < place for place, node in enumerate(trie.nodes))


@given(PATHS)
def test_a_sequence_holds_its_own_path_and_nothing_else(paths):
    trie = TokenTrie(0)
    for number, path in enumerate(paths, start=1):
        trie.add(path, [number])
    for number, path in enumerate(paths, start=1):
        assert [node.token for node in trie.nodes if number in node.sequences] == path


def test_a_path_may_go_on_behind_a_node():
    trie = TokenTrie(2)
    *_, end = trie.add([7, 8], [1, 2])
    first, second = trie.add([9], [1], after=end), trie.add([9, 5], [2], after=end)
    trie.nodes[second[-1]].wanted = True
    assert first == second[:1]
    assert trie.items == [
        (7, 2, [1, 2], False),
        (8, 3, [1, 2], False),
        (9, 4, [1, 2], False),
        (5, 5, [2], True),
    ]
    assert trie.wanted == [3]


def test_a_common_beginning_leaves_every_prompt_a_token_of_its_own():
    assert common_prefix([[1, 2, 3], [1, 2, 4]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2]]) == [1]
    assert common_prefix([[1]]) == []
