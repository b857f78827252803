"""Who has to propose? The lessons of a finished run as the device found them, and as three controls would have.

Beside what the model names, what good news came with is proposed; `news` proposes only that, counting alone
every command, `last` the episode's last one. All go through the same episodes, counts, cut and merge as the
device's, which are read back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_client.extract import Found
from oel_client.outbox import DATABASE
from oel_client.propose import PROPOSERS
from oel_client.reporting import make_report
from oel_client.session import find_lessons
from oel_client.store import DeviceStore
from oel_fleet.prose import count, families, items, percent
from oel_fleet.run_folder import Json, number, read_json, write_json
from oel_server.config import load
from oel_server.knowledge import Knowledge
from oel_server.knowledge.merge import merge
from oel_shared.lessons import in_words, matching_actions
from oel_shared.model import ChoiceQuery, LogProbs, Message
from oel_shared.transport import ReceivedReport
from oel_shared.types import Trajectory
from oel_shared.wire import Lesson, read_lesson

FILE = "controls.json"
TITLE = "Who proposed: the device, good news alone, counting alone, the last action"
NOTE = (
    "The same episodes with another proposer. The device proposes what its model names and what good news came "
    "with; good news alone only the latter, counting alone every command, the last action only the one that ended "
    "the episode. Used is what enough devices support and what is surely better than what "
    "was done instead, from this release's reports alone and before the precheck."
)
COLUMNS = (
    "who proposed", "release", "task family", "lessons reported", "lessons used",
    "one is not the last action", "base with them in the prompt",
)  # fmt: skip
NAMES = {
    "model": "the device", "news": "good news alone (no model)", "count": "counting alone (no model)",
    "last": "the last action",
}  # fmt: skip
ARMS = {"without": "no lessons", "random": "random legal play"}


@dataclass(frozen=True, slots=True)
class Endings:
    """In how many supporting episodes a lesson's action was the last one."""

    episodes: int
    """Episodes with a turn that a device kept as support; it keeps up to 20 turns a lesson."""
    ended: int

    @property
    def not_last(self) -> bool:
        """Whether most of them went on after it, or ended otherwise."""
        return 2 * self.ended < self.episodes


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one proposer makes of the episodes of one release."""

    proposer: str
    release: str
    families: tuple[str, ...]
    """All that were played, with lessons or without."""
    knowledge: Knowledge
    endings: Mapping[str, Endings]
    """By lesson id."""

    def beyond_last(self, family: str) -> tuple[Lesson, ...]:
        """Used lessons whose action is seldom the last of an episode."""
        return tuple(x for x in self.knowledge.used(family) if self.endings[x.id].not_last)


def propose_again(folder: Path, proposer: str, release: str) -> Proposal:
    """The merged lessons of a run folder's devices with one of `PROPOSERS`; calls no model, changes nothing.

    Raises: StateError if the run has no server folder; UsageError for an environment that cannot be used.
    """
    received, played = [], set[str]()
    texts: dict[str, Lesson] = {}
    endings: dict[str, Endings] = {}
    for home in _homes(folder):
        store = DeviceStore(home)
        if release not in {tally.release for tally in store.tallies()}:
            continue
        episodes, found = _find(store, home, proposer, release)
        for family, count_of in episodes.items():
            mine = [f for f in found if f.lesson.family == family]
            report, contents = make_report(release, family, count_of, mine)
            received.append(ReceivedReport(home.name, report))
            texts |= {one.lesson_id: read_lesson(one.lesson) for one in contents}
        played |= set(episodes)
        for key, seen in _endings(found, store, release).items():
            before = endings.get(key, Endings(0, 0))
            endings[key] = Endings(before.episodes + seen.episodes, before.ended + seen.ended)
    known = merge(received, texts, load(folder / "server").min_devices, release)
    return Proposal(proposer, release, tuple(sorted(played)), known, endings)


def releases_played(folder: Path) -> list[str]:
    """The releases with episodes on any device of a run folder, in the order of play."""
    return list(dict.fromkeys(t.release for home in _homes(folder) for t in DeviceStore(home).tallies()))


def write_controls(folder: Path, play: Json | None = None) -> None:
    """Write `controls.json` into a run folder.

    Args:
        play: scores with each proposer's lessons in the prompt, as the bar `controls` measures them.
    """
    rows = [
        _row(propose_again(folder, proposer, release))
        for release in releases_played(folder)
        for proposer in PROPOSERS
    ]
    write_json(folder / FILE, {"rows": rows} | ({"play": play} if play else {}))


def table_rows(folder: Path) -> list[list[str]]:
    """The run's `controls.json` as cells under `COLUMNS`; none if it has no such file."""
    content = read_json(folder / FILE)
    played = content.get("play")
    play = played if isinstance(played, dict) else {}
    rows = []
    for row in items(content, "rows"):
        proposer, release = str(row.get("proposer")), str(row.get("release"))
        for family, found in families(row).items():
            score = _score(play, family, proposer) if play.get("release") == release else "–"
            start = [NAMES.get(proposer, proposer), release, family]
            rows.append([*start, count(found.get("reported")), *_used_cells(family, found), score])
    for arm, name in ARMS.items():
        for family in families(play):
            rows.append([name, str(play.get("release")), family, *"–––", _score(play, family, arm)])
    return rows


class _NoModel:
    """Stands where controls take a model, and shows that they ask none."""

    def score(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        raise AssertionError("a control asked a model")

    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        raise AssertionError("a control asked a model")

    def generate(self, prompt: Sequence[Message], max_tokens: int, temperature: float, seed: int) -> str:
        raise AssertionError("a control asked a model")

    def generate_many(
        self,
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[str]:
        raise AssertionError("a control asked a model")


def _homes(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "devices").glob(f"*/{DATABASE}"))


def _find(
    store: DeviceStore, home: Path, proposer: str, release: str
) -> tuple[dict[str, int], tuple[Found, ...]]:
    if proposer != "model":
        return find_lessons(store, _NoModel(), release, home, proposer)
    episodes = Counter[str]()
    for tally in store.tallies():
        if tally.release == release:
            episodes[tally.family] += tally.episodes
    return dict(episodes), tuple(store.lessons(release))


def _endings(found: Sequence[Found], store: DeviceStore, release: str) -> dict[str, Endings]:
    """By lesson id, of one device's episodes."""
    episodes = {(t.game, t.seed): t for _, t in store.trajectories(release)}
    cited = {item.lesson: {(cite.game, cite.seed) for cite in item.cites} for item in found}
    return {
        lesson.id: Endings(len(keys), sum(_ends(lesson, episodes[key]) for key in keys))
        for lesson, keys in cited.items()
    }


def _ends(lesson: Lesson, trajectory: Trajectory) -> bool:
    last = trajectory.turns[-1]
    return last.action in matching_actions(lesson, last.state)


def _row(proposal: Proposal) -> Json:
    reported = Counter(known.lesson.family for known in proposal.knowledge.lessons)
    return {
        "proposer": proposal.proposer,
        "release": proposal.release,
        "families": {
            family: {
                "reported": reported[family],
                "used": [_plain(lesson, proposal.endings) for lesson in proposal.knowledge.used(family)],
                "not_last": bool(proposal.beyond_last(family)),
            }
            for family in proposal.families
        },
    }


def _plain(lesson: Lesson, endings: Mapping[str, Endings]) -> Json:
    seen = endings[lesson.id]
    return {"id": lesson.id, "text": in_words(lesson), "episodes": seen.episodes, "ended": seen.ended}


def _used_cells(family: str, found: Json) -> tuple[str, str]:
    said = [
        f"{str(lesson.get('text')).removeprefix(f'{family}: ')} "
        f"(last of {count(lesson.get('ended'))} of {count(lesson.get('episodes'))} episodes)"
        for lesson in items(found, "used")
    ]
    return "; ".join(said) or "none", ("yes" if found.get("not_last") else "no") if said else "–"


def _score(play: Json, family: str, arm: str) -> str:
    """Such as `43.2 % (40.1 % to 47.0 %)`."""
    figures = families(play).get(family, {}).get(arm)
    if not isinstance(figures, dict):
        return "–"
    score, low, high = (percent(number(figures.get(key))) for key in ("score", "low", "high"))
    twin = figures.get("same_as")
    same = f", as with {(NAMES | ARMS).get(str(twin), str(twin))}" if twin else ""
    return f"{score} ({low} to {high}){same}"
