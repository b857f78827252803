"""`oel eval`: models, with and without adapters or lessons, against each other and against random-legal."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import click
import typer

from oel_shared.console import Advance, progress, say, show, show_json, show_table
from oel_shared.types import SPLITS, Split, TeacherContext

if TYPE_CHECKING:
    from oel_shared.evaluate import Evaluation, Measure, Result
    from oel_shared.model import LanguageModel
    from oel_shared.play import Play
    from oel_shared.wire import Lesson

RANDOM = "random-legal"
CONTEXTS = get_args(TeacherContext)
MEASURES: tuple[Measure, ...] = ("success", "score", "steps")


@dataclass(frozen=True, slots=True)
class Contender:
    """One model file, with an adapter or without."""

    name: str
    model: Path
    adapter: Path | None


def evaluate_command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL.gguf...")],
    environments: Annotated[
        list[str], typer.Option("--env", help="Environment, such as textworld:cooking?recipe=1. Repeatable.")
    ],
    adapter: Annotated[
        Path | None, typer.Option(help="GGUF LoRA: each model is played without it and with it.")
    ] = None,
    lessons: Annotated[
        Path | None,
        typer.Option(help="JSON as `oel client lessons --json` prints: each model also plays with them."),
    ] = None,
    context: Annotated[
        str, typer.Option(click_type=click.Choice(CONTEXTS), help="Lessons that apply, or the list of all.")
    ] = "relevant",
    plays: Annotated[int, typer.Option(min=1, help="Plays per environment and arm.")] = 128,
    games: Annotated[int | None, typer.Option(min=1, help="Distinct games; a quarter of the plays.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Picks the games and all random choices.")] = 7,
    split: Annotated[
        str, typer.Option(click_type=click.Choice(SPLITS), help="'final' only for a last verdict.")
    ] = "practice",
    threads: Annotated[int, typer.Option(min=1, help="Threads of llama.cpp.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play the same games with each model and with random-legal, and compare them in pairs.

    MODEL is a GGUF file, or `default` for the embedded model.
    The difference is to the first model; its 95 % interval is a bootstrap over games, not plays.

    Example: `oel eval default new.gguf --env textworld:coin_collector?level=3 --plays 128 --seed 7`
    """
    from oel_shared.environments.registry import open_environment
    from oel_shared.evaluate import plays_in
    from oel_shared.gguf_file import check_model_file

    contenders = _contenders(models, adapter)
    for contender in contenders:
        check_model_file(contender.model)
    opened = {spec: open_environment(spec, say) for spec in dict.fromkeys(environments)}
    known = read_lessons(lessons) if lessons else ()
    chosen: Split = next(s for s in get_args(Split) if s == split)
    dealt = {spec: plays_in(e, chosen, plays, seed, games) for spec, e in opened.items()}
    every = [one for part in dealt.values() for one in part]
    arms = 1 + len(contenders) * (2 if known else 1)
    with progress("plays", len(every) * arms) as advance:
        told: TeacherContext = next(c for c in CONTEXTS if c == context)
        evaluation = _evaluate(every, contenders, (known, told), threads, advance)
    report = {
        "plays": plays,
        "seed": seed,
        "split": split,
        "environments": [_summary(spec, part, every, evaluation, seed) for spec, part in dealt.items()],
    }
    if as_json:
        show_json(report)
    else:
        _show(report)


def read_lessons(path: Path) -> tuple[Lesson, ...]:
    """Lessons from a JSON file: a list, or an object with `lessons`; items may carry them as `lesson`.

    Raises: UsageError in one line.
    """
    from oel_shared.errors import UsageError
    from oel_shared.wire import Lesson

    try:
        value = json.loads(path.read_text())
        items = value["lessons"] if isinstance(value, dict) else value
        plain = [item.get("lesson", item) for item in items]
        return tuple(
            Lesson.of(p["family"], p["template"], p.get("cue", "legal"), p.get("advice", "do")) for p in plain
        )
    except FileNotFoundError as error:
        raise UsageError(f"no lessons file {path}") from error
    except KeyError as error:
        raise UsageError(f"{path} is not a list of lessons: {error} is missing") from error
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise UsageError(f"{path} is not a list of lessons: {error}") from error


def _contenders(models: Sequence[str], adapter: Path | None) -> list[Contender]:
    """Names are file stems, made distinct where two are alike."""
    from oel_shared.defaults import resolve_model
    from oel_shared.errors import ModelFileError

    if adapter and not adapter.is_file():
        raise ModelFileError(f"no adapter file {adapter}: give the path of a GGUF LoRA adapter")
    found: list[Contender] = []
    for number, word in enumerate(models):
        alike = [Path(other).stem for other in models].count(Path(word).stem) > 1
        name = f"{Path(word).stem}#{number + 1}" if alike else Path(word).stem
        found.append(Contender(name, resolve_model(word), None))
        if adapter:
            found.append(Contender(f"{name} + {adapter.stem}", resolve_model(word), adapter))
    return found


def _evaluate(
    plays: Sequence[Play],
    contenders: Sequence[Contender],
    told: tuple[Sequence[Lesson], TeacherContext],
    threads: int,
    advance: Advance,
) -> Evaluation:
    from oel_shared.evaluate import Evaluation, evaluate
    from oel_shared.llama import open_model
    from oel_shared.play import ModelPolicy, RandomLegal

    arms: dict[str, tuple[Result, ...]] = {}
    for contender in contenders:
        # One model in memory at a time.
        with open_model(contender.model, contender.adapter, threads) as model:
            arms |= evaluate(plays, {contender.name: ModelPolicy(model)}, advance).arms
            if told[0]:
                arms[f"{contender.name} + lessons"] = _told(plays, model, *told, advance)
    return Evaluation(arms | dict(evaluate(plays, {RANDOM: RandomLegal()}, advance).arms))


def _told(
    plays: Sequence[Play],
    model: LanguageModel,
    lessons: Sequence[Lesson],
    context: TeacherContext,
    advance: Advance,
) -> tuple[Result, ...]:
    """The plays of each family, which stand together, with the lessons of that family."""
    from oel_shared.evaluate import evaluate
    from oel_shared.play import ModelPolicy

    found: list[Result] = []
    for family, part in itertools.groupby(plays, key=lambda one: one.game.family):
        own = [lesson for lesson in lessons if lesson.family == family]
        found += evaluate(list(part), {"it": ModelPolicy(model, own, context=context)}, advance).arms["it"]
    return tuple(found)


def _summary(
    spec: str, part: Sequence[Play], every: Sequence[Play], evaluation: Evaluation, seed: int
) -> dict[str, Any]:
    """The figures of one environment, whose plays stand together in `every`."""
    from oel_shared.evaluate import Evaluation

    start = next(number for number, one in enumerate(every) if one is part[0])
    own = Evaluation({name: r[start : start + len(part)] for name, r in evaluation.arms.items()})
    first = next(iter(own.arms))
    return {
        "environment": spec,
        "games": len({one.game.id for one in part}),
        "reference": first,
        "arms": [_arm(own, name, first, seed) for name in own.arms],
    }


def _arm(evaluation: Evaluation, name: str, first: str, seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        measure: asdict(evaluation.interval(name, measure, seed)) for measure in MEASURES
    }
    for figure in figures.values():
        del figure["p_value"]
    differences = (
        {}
        if name == first
        else {m: asdict(evaluation.difference(name, first, m, seed)) for m in ("success", "score")}
    )
    results = evaluation.arms[name]
    return {"arm": name, "won": sum(r.success for r in results), **figures, "difference": differences}


def _show(report: Mapping[str, Any]) -> None:
    for part in report["environments"]:
        title = f"{part['environment']}: {report['plays']} plays of {part['games']} {report['split']} games"
        columns = ("arm", "won", "win rate", "score", "steps", f"win rate - {part['reference']}", "p")
        show_table(columns, [tuple(_row(arm)) for arm in part["arms"]], title)
    show("In brackets: 95 % interval, bootstrap over games. p: one-sided, sign flips of games.")


def _row(arm: Mapping[str, Any]) -> Iterator[str]:
    yield arm["arm"]
    yield str(arm["won"])
    yield f"{100 * arm['success']['mean']:.1f} %"
    yield f"{arm['score']['mean']:.3f}"
    yield f"{arm['steps']['mean']:.1f}"
    difference = arm["difference"].get("success")
    if difference is None:
        yield from ("", "")
        return
    low, high = 100 * difference["low"], 100 * difference["high"]
    yield f"{100 * difference['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
    yield f"{difference['p_value']:.3f}"
