"""Pictures of the table."""

from __future__ import annotations

import re

from oel_fleet.experiment.by_round import FEDERATIONS, plots
from oel_fleet.experiment.plan import ROWS
from oel_fleet.experiment.table import publish_results
from tiny_experiment import line, results


def test_every_family_has_a_picture_of_its_releases_with_base_and_random_play_beside(done):
    found = results(done)
    drawn = plots(found)
    assert set(drawn) == {"tiny-scripted"}
    svg = drawn["tiny-scripted"]
    assert svg.startswith("<svg")
    for words in ("base", "random legal", "base, told lessons", "OPCD", "off-policy", "round 1"):
        assert f">{words}</text>" in svg
    score = line(found, "opcd")["score"]
    assert f"OPCD: {100 * score['mean']:.1f} % ({100 * score['low']:.1f} to" in svg


def test_federations_of_one_round_stand_beside_each_other_in_colours_of_their_own(done):
    svg = plots(results(done))["tiny-scripted"]
    place = {
        name: re.search(rf'<circle class="dot {style}" cx="([\d.]+)" [^>]*><title>', svg)
        for name, style in FEDERATIONS.items()
    }
    measured = {name: float(found[1]) for name, found in place.items() if found}
    assert len(measured) > 1
    assert len(set(measured.values())) == len(measured)
    assert len(set(FEDERATIONS.values())) == len(FEDERATIONS)


def test_every_row_of_releases_can_be_drawn():
    assert set(FEDERATIONS) == {name for name, row in ROWS.items() if row.file == "end"}


def test_without_a_release_there_is_nothing_to_draw(done):
    found = results(done)
    assert plots({**found, "rows": [x for x in found["rows"] if x["row"] in ("random", "base")]}) == {}


def test_a_page_gets_the_pictures_beside_the_table(done, tmp_path):
    page = tmp_path / "results.md"
    publish_results(results(done), page)
    text = page.read_text()
    assert "(img/tiny-scripted.svg)" in text
    assert text.index("### experiment-tiny") < text.index("(img/tiny-scripted.svg)") < text.index("| OPCD |")
    assert (tmp_path / "img" / "tiny-scripted.svg").read_text() == plots(results(done))["tiny-scripted"]
