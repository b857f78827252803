"""`oel client try`: paired trials of the lessons found here, for when the device is idle."""

from __future__ import annotations

from typing import Annotated

import typer

from oel_client.cli_options import Home, Json, folder_of
from oel_shared.console import progress, say, show, show_json, show_table


def try_lessons(
    home: Home = None,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes to play at most.")] = 32,
    as_json: Json = False,
) -> None:
    """Try lessons: play the same games with each and without, and count who did better.

    Each call goes on where the last one ended; a kill loses one pair at most. The counts go into the next report,
    which `oel client extract` makes.

    Example: `oel client try --episodes 16`
    """
    from oel_client import config as settings
    from oel_client.installation import installed
    from oel_client.trials import run_trials, verdict
    from oel_client.trials_store import Tally
    from oel_shared.lessons import in_words
    from oel_shared.llama import open_model

    folder = folder_of(home)
    config, now = settings.load(folder), installed(folder)
    with (
        open_model(now.model, now.adapter, config.threads) as model,
        progress(f"trying lessons with {now.version}", episodes) as advance,
    ):
        done = run_trials(folder, model, config, episodes, advance, say)
    rows = [(item, Tally.of(item.evidence)) for item in done.found]
    if as_json:
        lessons = [
            {"id": item.lesson.id, "words": in_words(item.lesson), "won": t.won, "lost": t.lost, "tied": t.tied,
             "verdict": verdict(t)}
            for item, t in rows
        ]  # fmt: skip
        show_json({"release": done.release, "episodes": done.episodes, "lessons": lessons})
    elif rows:
        show_table(
            ["lesson", "won", "lost", "tied", "verdict"],
            [[in_words(i.lesson), str(t.won), str(t.lost), str(t.tied), verdict(t)] for i, t in rows],
        )
        show(f"{done.episodes} episodes with {done.release}. Next: oel client extract --home {folder}")
    else:
        show(f"nothing left to try: every lesson from {done.release} is decided")
