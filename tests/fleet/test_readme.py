"""What the README says is so: its commands exist and run, its files are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oel_commands import understood

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "deploy").glob("*/README.md"))]


def blocks(mark: str, text: str = README) -> list[str]:
    """Code below a comment `<!-- mark -->`."""
    return re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", text, re.DOTALL)


def files() -> Iterator[tuple[str, str]]:
    yield from re.findall(r"<!-- file: ([\w./]+) -->\n```\w+\n(.*?)```", README, re.DOTALL)


def commands(code: str) -> list[list[str]]:
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("oel ")]


ALL = [
    words
    for page in PAGES
    for code in blocks("(?:run|parse)", (ROOT / page).read_text())
    for words in commands(code)
]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_in_the_documents_is_one_that_oel_understands(words: list[str]) -> None:
    understood(words)


def test_the_documents_examples_run_as_they_stand(tmp_path: Path) -> None:
    for name, content in files():
        (tmp_path / name).write_text(content)
    for code in blocks("run"):
        for words in commands(code):
            done = subprocess.run(
                [sys.executable, "-m", "oel_shared.cli", *words],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"oel {' '.join(words)}\n{done.stdout}{done.stderr}"


def test_the_example_environment_keeps_its_contract(tmp_path: Path) -> None:
    scope: dict[str, object] = {}
    exec(dict(files())["vending.py"], scope)
    environment = scope["Vending"]()  # type: ignore[operator]
    seen: dict[str, set[str]] = {
        split: {game.id for game in environment.games(split, 100, 3)}
        for split in ("device", "practice", "gate", "final")
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 48
    game = environment.games("device", 1, 0)[0]
    episode = game.start()
    for _ in range(game.price):
        assert not episode.outcome
        episode.step("insert coin")
    episode.step(f"press {game.drink} button")
    assert episode.outcome.success
    with pytest.raises(ValueError, match="not legal"):
        episode.step("insert coin")


def test_every_file_of_the_tree_exists() -> None:
    tree = README.split("## The tree")[1].split("\n## ")[0]
    folder = ROOT
    for line in filter(None, tree.splitlines()):
        indent = len(line) - len(line.lstrip())
        names = re.split(r"\s{2,}", line.strip())[0]
        if indent == 4:
            first, *others = names.split()
            folder = ROOT / first
            assert folder.is_dir(), first
            assert all((folder.parent / other).is_dir() for other in others), names
        else:
            for name in names.replace(",", " ").split():
                assert (folder / name).exists(), f"{folder.name}/{name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_local_link_leads_somewhere(page: str) -> None:
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^    )make ([a-z][a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
