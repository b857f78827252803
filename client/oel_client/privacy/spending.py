"""The epsilon that a device spent, in its `device.db`: one row for each private report that was ever made.

By sequential composition the epsilons add up. A report is charged when its noise is drawn, in the same transaction,
whether it ever leaves or not; sending it again, or taking lessons out of it, costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from oel_client.config import ClientConfig
from oel_client.device_db import transaction
from oel_client.outbox import DATABASE
from oel_shared import wire

_COLUMNS = {
    "number": int, "report": str, "family": str, "release": str, "epsilon": float, "made": str, "about": str,
    "payload": bytes,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spent:
    """What one report cost."""

    report: str
    family: str
    release: str
    epsilon: float
    made: str
    """UTC, ISO 8601."""


class Spending:
    """The private reports of one device folder. Each call is one transaction, so processes may share it."""

    def __init__(self, home: Path) -> None:
        self._path = home / DATABASE
        with transaction(self._path) as database:
            database["privacy"].create(_COLUMNS, pk="number", if_not_exists=True)

    def report(
        self, about: str, budget: float, draw: Callable[[], wire.Report], epsilon: float, made: str
    ) -> wire.Report | None:
        """The report over these records: the one made earlier, else a new one; None if the budget is too small.

        Args:
            about: what names the records and the question, and nothing that a record says: see `reports`.
            budget: 0 for no limit.
            draw: makes the new report.
        """
        with transaction(self._path) as database:
            rows = list(database["privacy"].rows_where("about = ?", [about], order_by="number desc", limit=1))
            if rows:
                return wire.decode_report(rows[0]["payload"])
            before = [epsilon for (epsilon,) in database.execute("SELECT epsilon FROM privacy")]
            if budget and _sum([*before, epsilon]) > _sum([budget]):
                return None
            report = draw()
            row = {
                "report": wire.digest(report), "family": report.family, "release": report.release,
                "epsilon": epsilon, "made": made, "about": about, "payload": wire.encode(report),
            }  # fmt: skip
            database["privacy"].insert(row)
            return report

    def all(self) -> tuple[Spent, ...]:
        """Every charge, oldest first."""
        columns = "report, family, release, epsilon, made"
        with transaction(self._path) as database:
            rows = database.execute(f"SELECT {columns} FROM privacy ORDER BY number").fetchall()
        return tuple(Spent(*row) for row in rows)


def facts(home: Path, config: ClientConfig) -> dict[str, Any]:
    """What was spent and what is left, as plain values; `budget` and `left` are None without a limit."""
    charges = Spending(home).all()
    spent = _sum(charge.epsilon for charge in charges)
    budget = config.privacy_budget or None
    left = None if budget is None else float(max(_sum([budget]) - spent, Decimal(0)))
    return {
        "epsilon": config.privacy_epsilon,
        "spent": float(spent),
        "budget": budget,
        "left": left,
        "reports": [asdict(charge) for charge in charges],
    }


def in_words(told: dict[str, Any]) -> str:
    """`facts` in one line; `off` on a device that never had it on."""
    now = f"epsilon {told['epsilon']:g} a report" if told["epsilon"] else "off"
    if not told["epsilon"] and not told["reports"]:
        return now
    limit = "no budget is set" if told["budget"] is None else f"{told['left']:g} left of {told['budget']:g}"
    return f"{now}; {told['spent']:g} spent, reports made: {len(told['reports'])}; {limit}"


def refusal(family: str, told: dict[str, Any]) -> str:
    """Why there is no report of a family, in one line."""
    return (
        f"No report of {family}: it costs epsilon {told['epsilon']:g}, and {told['left']:g} is left of the budget "
        f"of {told['budget']:g}. Raise privacy_budget in the settings if more may be told of these episodes."
    )


def _sum(epsilons: Iterable[float]) -> Decimal:
    """In decimal, as they are written: ten times 0.1 is 1."""
    return sum((Decimal(str(epsilon)) for epsilon in epsilons), Decimal(0))
