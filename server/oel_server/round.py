"""One round, from the devices' reports to a release or an honest no: the main loop of the server."""

from __future__ import annotations

from collections.abc import Callable

from oel_server import gating, learning, shipping
from oel_server.context import Context
from oel_server.lock import alone
from oel_server.shrink import STAGE, may_shrink, shrink
from oel_server.stages import Json
from oel_shared import atomic


class Round(Context):
    """A round in the making. Every stage reads what earlier ones left in the folder, so it can be resumed."""

    def run(self) -> Json:
        """All stages in order; a round ends early where a stage finds no reason to go on.

        Raises: StateError if another process works on the server's folder, and as the stages do.
        """
        with alone(self.server):
            return self._run()

    def _run(self) -> Json:
        self._stage("collect", learning.collect)
        if not self._stage("merge", learning.merge_lessons)["used"]:
            return self._end("no lesson has enough support yet")

        self._stage("practise", learning.practise)
        if not self._stage("precheck", learning.precheck)["helps"]:
            return self._end("precheck: the lessons do not raise the current model's play")

        self._stage("distil", learning.distil)
        verdict = self._judged()
        if may_shrink(verdict):
            self._stage(STAGE, shrink)
            verdict = self._judged()
        if not verdict["released"]:
            return self._end(gating.refusal(verdict))

        return self._stage("release", shipping.release)

    def _judged(self) -> Json:
        self._stage("package", shipping.package)
        self._stage("screen", shipping.screen)
        return self._stage("gate", gating.gate)

    def _stage(self, name: str, work: Callable[[Context], Json]) -> Json:
        # Each stage closes the models that it opened.
        with atomic.told_when_full(self.server, "run the round again"), self.models:
            return self.folder.run(name, lambda: work(self))

    def _end(self, reason: str) -> Json:
        return self._stage("release", lambda round: shipping.close(round, reason))
