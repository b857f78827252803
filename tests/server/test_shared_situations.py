"""What devices shared, as practice: chosen, combined with own games, trained on, gone once erased."""

from __future__ import annotations

import pytest
import zstandard

from made_reports import batch_of, put_situations
from oel_client.outbox import Outbox, Parcel
from oel_server import releases
from oel_server.erase import erase_device
from oel_server.inbox import Inbox
from oel_server.shared_situations import HELD_OUT, MOST_OF_A_NODE, SharedSituations
from oel_server.stages import RoundFolder
from oel_shared import wire
from scripted_model import heeds_hints, obeys
from scripted_round import CORRIDOR, LESSONS, World, small_server, two_devices

TOY = wire.Lesson.of("toy", "open chest")


def halls(name: str, count: int = 24, family: str = "toy") -> wire.Situations:
    told = [("Open the chest.", f"Hall {name} {n}.", ("look", "open chest")) for n in range(count)]
    return batch_of(family, *told)


def test_each_state_is_practised_once_whoever_sent_it():
    both = SharedSituations([("10", halls("a")), ("11", halls("a")), ("11", halls("b"))], ())
    practice = both.practice()
    said = [p.state.observation for p in (*practice.prompts, *practice.screening)]
    assert sorted(said) == sorted({f"Hall {name} {n}." for name in "ab" for n in range(24)})
    assert (practice.plays, practice.played) == ((), ())
    assert all(p.state.history == () for p in practice.prompts)
    assert both.as_json() == {"toy": {"situations": 48, "nodes": ["10", "11"]}}


def test_families_with_games_here_need_nobodys_states():
    shared = SharedSituations([("10", halls("a")), ("10", halls("b", family="scripted"))], {"scripted"})
    assert shared.families == {"toy"}
    assert {p.family for p in shared.practice().prompts} == {"toy"}


def test_about_a_quarter_is_held_out_and_stays_so_as_more_arrives():
    few = SharedSituations([("10", halls("a"))], ()).practice()
    many = SharedSituations(
        [("10", halls("a")), *((f"{n}", halls(f"{n}")) for n in range(11, 31))], ()
    ).practice()
    total = len(many.prompts) + len(many.screening)
    assert total == 21 * 24
    assert 0.5 < HELD_OUT * len(many.screening) / total < 1.5
    assert set(few.screening) <= set(many.screening)
    assert set(few.prompts) <= set(many.prompts)


def test_one_device_brings_in_so_many_states_at_most_and_its_newest_ones():
    flood = [("10", halls(str(n))) for n in range(9)]
    shared = SharedSituations([*flood, ("11", halls("other"))], ())
    practice = shared.practice()
    said = [p.state.observation for p in (*practice.prompts, *practice.screening)]
    assert len(said) == MOST_OF_A_NODE + 24
    assert {f"Hall 8 {n}." for n in range(24)} <= set(said)
    assert not any(text.startswith("Hall 0 ") for text in said)


class SharingWorld(World):
    """Devices that share situations of the family toy, which the server has no games of."""

    def share(self, *nodes: int) -> list[str]:
        return [put_situations(self.homes[node], halls(f"of {node}")) for node in nodes]

    def everything(self) -> bytes:
        """All bytes of the server's folder, unpacked where they are packed."""
        found = b""
        for file in (f for f in self.server.rglob("*") if f.is_file()):
            data = file.read_bytes()
            packed = file.suffix == ".zst"
            found += zstandard.ZstdDecompressor().decompressobj().decompress(data) if packed else data
        return found


@pytest.fixture
def world(tmp_path, tiny_llama):
    homes = two_devices(tmp_path, share_situations=("toy",))
    return SharingWorld(small_server(tmp_path / "server", tiny_llama, CORRIDOR), homes)


def test_without_situations_a_lesson_of_a_family_that_is_not_played_here_is_not_taught(world):
    world.device_reports(lessons=(TOY,))
    assert "no lesson has enough support" in world.round().run()["reason"]


def test_a_lesson_is_practised_on_what_devices_shared_and_released_as_unproven(world):
    world.device_reports(lessons=(TOY,))
    world.share(10, 11)
    ours = world.round()
    result = ours.run()
    assert (result["released"], result["version"]) == (True, "r1")
    (manifest,) = releases.list_releases(world.server / "releases")
    assert (manifest.standing, manifest.lesson_ids) == ("unproven", (TOY.id,))
    gate = RoundFolder(world.server, 1).expect("gate")
    assert gate["overall"]["candidate_kl"] < gate["overall"]["current_kl"]
    assert set(gate["families"]) == {"scripted"}  # its own games were played too
    assert {p.family for p in ours.practice().prompts} == {"scripted", "toy"}
    practised = RoundFolder(world.server, 1).expect("practise")
    assert practised["shared"] == {"toy": {"situations": 48, "nodes": ["10", "11"]}}
    assert [p.state for p in Outbox(world.homes[10]).all()] == ["acknowledged"] * 2


def test_what_is_nearer_to_the_teacher_but_harms_the_servers_own_games_is_not_released(world):
    def skilled(prompt: str, choice: str) -> float:
        return heeds_hints(prompt, choice) if "Hall of" in prompt else obeys(prompt, choice)

    def harmful(prompt: str, choice: str) -> float:
        return obeys(prompt, choice) * (1 if "Hall of" in prompt else -1)

    world.device_reports(lessons=(TOY,))
    world.share(10, 11)
    world.base_plays, world.candidates_play = skilled, harmful
    result = world.round().run()
    assert (result["released"], "gate" in result["reason"]) == (False, True)
    gate = RoundFolder(world.server, 1).expect("gate")
    assert gate["overall"]["candidate_kl"] < gate["overall"]["current_kl"]


def test_own_games_that_only_must_not_get_worse_are_played_to_the_end(world):
    """Where nothing was taught, a gain is not to be had, and giving up for want of one would hide a loss."""

    def same_in_corridors(prompt: str, choice: str) -> float:
        return (obeys if "Hall of" in prompt else heeds_hints)(prompt, choice)

    world.device_reports(lessons=(TOY,))
    world.share(10, 11)
    world.candidates_play = same_in_corridors
    assert world.round().run()["released"]
    assert RoundFolder(world.server, 1).expect("gate")["looks"] == 3


def test_own_games_and_shared_situations_are_practised_together(world):
    world.device_reports(lessons=(TOY,))
    world.device_reports()
    world.share(10)  # one device that shares is enough
    result = world.round().run()
    assert result["released"]
    (manifest,) = releases.list_releases(world.server / "releases")
    assert set(manifest.lesson_ids) == {TOY.id, *(lesson.id for lesson in LESSONS)}
    assert (manifest.standing, manifest.gate["unplayed"]) == ("proven", ["toy"])
    assert RoundFolder(world.server, 1).expect("distil")["taught"] > 0


def test_what_an_erased_device_shared_is_gone_from_every_file_and_its_releases_are_retracted(world):
    world.device_reports(lessons=(TOY,))
    world.share(10, 11)
    assert world.round().run()["released"]
    # Its report is taken back first: what it shared is reason enough to retract.
    outbox = Outbox(world.homes[10])
    outbox.withdraw([p.report_id for p in outbox.all() if p.kind == "report"])
    world.transport().collect(2)
    batch = halls("of 10")
    stored = wire.encode(batch)[20:60]
    assert stored in world.everything()
    assert b"Hall of" not in world.everything()  # no file of the round says what was shared
    gone = erase_device(world.server, "10")
    assert (gone.reports, gone.retracted, gone.next_from) == (1, ("r1",), "base")
    assert stored not in world.everything()
    inbox = Inbox(world.server)
    assert [node for node, _ in inbox.situations(9)] == ["11"]
    assert not inbox.keep_situations(3, "10", wire.digest(batch), wire.encode(batch))
    inbox.close()


def test_what_a_device_forgets_the_server_forgets(world):
    (mine, _) = world.share(10, 11)
    world.transport().collect(1)
    inbox = Inbox(world.server)
    assert inbox.nodes() == {"10": 1, "11": 1}
    assert [node for node, _ in inbox.situations(1)] == ["10", "11"]
    assert Outbox(world.homes[10]).withdraw([mine]) == 1
    world.transport().collect(2)
    assert [node for node, _ in inbox.situations(2)] == ["11"]
    assert not inbox.keep_situations(3, "10", mine, wire.encode(halls("of 10")))
    assert "withdrawn" in inbox.refusals(3)[0]["reason"]
    inbox.close()


def test_asking_again_and_the_same_batch_of_two_devices_change_nothing(world):
    for home in world.homes.values():
        put_situations(home, halls("same"))
    for _ in range(2):
        world.transport().collect(1)
    inbox = Inbox(world.server)
    assert [node for node, _ in inbox.situations(1)] == ["10", "11"]
    inbox.close()
    world.transport().announce(1, None, [])
    assert [p.state for p in Outbox(world.homes[11]).all()] == ["acknowledged"]
    world.transport().collect(2)
    assert [line.round for line in Outbox(world.homes[11]).ledger()] == [1]


def test_nothing_of_a_batch_that_breaks_the_schema_is_kept(world):
    right = wire.canonical_json(halls("x"))
    for number, (payload, says) in enumerate(
        (
            (right.replace(b'"look"', b'"wait"'), "field states.0.actions"),
            (right.replace(b"Hall x 3.", b"Hall <x> 3."), "field states.17.observation"),
            (right.replace(b'"states"', b'"trajectory"'), "field"),
            (b"noise", "field the whole"),
        )
    ):
        key = f"{number:064x}"
        packed = zstandard.compress(payload)
        bad = Parcel(key, packed, "toy", key, "2026-01-31", "waiting", None, "situations")
        Outbox(world.homes[10]).put(bad, ())
        world.transport().collect(number + 1)
        inbox = Inbox(world.server)
        (refusal,) = inbox.refusals(number + 1)
        assert says in refusal["reason"]
        assert refusal["reason"].startswith("situations ")
        assert inbox.situations(9) == []
        inbox.close()
        world.transport().announce(number + 1, None, [])
    assert {p.state for p in Outbox(world.homes[10]).all()} == {"refused"}
    put_situations(world.homes[10], halls("fine"))
    world.share(11)
    world.transport().collect(9)
    inbox = Inbox(world.server)
    assert len(inbox.situations(9)) == 2
    inbox.close()


def test_a_batch_under_a_false_id_or_as_a_report_is_refused(world):
    inbox = Inbox(world.server)
    payload = wire.encode(halls("x"))
    assert not inbox.keep_situations(1, "10", "f" * 64, payload)
    assert not inbox.keep(1, "10", wire.digest(halls("x")), payload)
    reasons = [r["reason"] for r in inbox.refusals(1)]
    assert any(reason.startswith("situations field id") for reason in reasons)
    assert any(reason.startswith("report field") for reason in reasons)
    assert inbox.situations(1) == []
    assert inbox.reports(1) == []
    inbox.close()
