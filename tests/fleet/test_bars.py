"""The runner of bars: what counts as passed, what is refused, what the table shows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "bench"


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_run"] = module
    spec.loader.exec_module(module)
    return module


run = load_runner()
PASSING = 'print("working")\nprint(\'{"bar": "x", "pass": true, "seconds": 3}\')\n'


def a_bar(folder: Path, body: str, name: str = "bar_some_thing.py") -> Path:
    path = folder / name
    path.write_text(f"QUICK = True\nMINUTES = 0.5\n{body}")
    return path


def test_every_bar_declares_whether_it_is_quick_and_how_long_it_takes() -> None:
    bars = run.find_bars()
    assert "many" in bars
    assert all(bar.minutes > 0 for bar in bars.values())
    assert all(bar.minutes <= run.LONG_MINUTES for bar in bars.values() if bar.quick)


def test_a_bar_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bar_lazy.py").write_text("QUICK = True\n")
    with pytest.raises(SystemExit, match=r"bar_lazy\.py must declare"):
        run.find_bars(tmp_path)


def test_a_bars_name_has_dashes_for_underscores(tmp_path: Path) -> None:
    a_bar(tmp_path, "")
    assert list(run.find_bars(tmp_path)) == ["some-thing"]


@pytest.mark.parametrize(
    ("body", "passed"),
    [
        (PASSING, True),
        (PASSING + "raise SystemExit(1)\n", False),
        (PASSING.replace("true", "false"), False),
        (PASSING + "print('and more')\n", False),
        ("raise RuntimeError('broken')\n", False),
        ("print('[1]')\n", False),
    ],
    ids=["passes", "exit code 1", "pass false", "no JSON last", "an exception", "no object"],
)
def test_a_bar_passes_only_with_pass_true_as_its_last_line_and_exit_code_0(
    tmp_path: Path, body: str, passed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.run_bar(run.read_bar(a_bar(tmp_path, body))).passed is passed


def test_the_table_names_verdict_and_figures() -> None:
    verdicts = [
        run.Verdict("many", True, 12.3, {"bar": "many", "pass": True, "devices": 100}),
        run.Verdict("lost-node", False, 1.0, {}),
    ]
    table = run.table(verdicts)
    assert "many             pass       12.3  devices 100" in table
    assert "FAIL" in table


def test_an_unknown_bar_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["nonsense"]) == 2
    assert "no bar nonsense. There are: " in capsys.readouterr().err


@pytest.mark.slow
def test_both_sides_of_the_bar_against_trl_run_and_find_the_same_loss(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'edge-oel[dev]'")
    monkeypatch.setenv("SMALL", "1")
    monkeypatch.setenv("THREADS", "1")
    verdict = run.run_bar(run.find_bars()["distil-speed"])
    capfd.readouterr()
    assert verdict.passed
    assert {level for level, found in verdict.figures["levels"].items() if found["equal_loss"]} == {
        "choice",
        "token",
        "rollout",
    }
