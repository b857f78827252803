"""The runner of bars: what counts as passed, what is refused, what the table shows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.fixture
def bar_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(FOLDER))
    import bar_gpu

    return bar_gpu


def test_without_a_gpu_its_bar_says_that_it_was_not_run(
    bar_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.setenv("SHAPES", "tiny")
    with pytest.raises(SystemExit) as ended:
        bar_gpu.main()
    said = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert said[0].startswith("not run: torch sees no CUDA GPU")
    assert json.loads(said[-1])["run"] is False


def figures_on_a_card(tokens: float, equal: bool = True, share: float = 0.4) -> dict[str, Any]:
    beside = {
        "tokens_a_second": {"ours": 30_000, "trl": 20_000},
        "ratio": 1.5,
        "peak_mb": {"ours": 12_000, "trl": 24_000},
        "equal_loss": equal,
    }
    gaps = {"gap_before": 2.0, "gap_after": 1.0}
    return {"tokens_a_second": tokens, "share_of_product": share, "beside": beside, **gaps}


def test_each_card_has_one_table_in_the_results_that_a_later_run_replaces(
    bar_gpu: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "results.md"
    for card, tokens in (("Card A", 41_000.0), ("Card B", 52_000.0), ("Card A", 63_000.0)):
        found = {"Qwen3-4B": figures_on_a_card(tokens)}
        bar_gpu.publish(bar_gpu.table(card, found), f"bar gpu, {card}", page)
    text = page.read_text()
    assert text.count("### A token-level step on") == 2
    assert "| Qwen3-4B | 63,000 | 40 % | 30,000 | 20,000 | 1.50 | 12.6 | 25.2 |" in text
    assert "52,000" in text
    assert "41,000" not in text


def test_a_gpus_steps_must_be_fast_and_lose_what_trl_loses(bar_gpu: ModuleType) -> None:
    import torch

    card, cpu = torch.device("cuda"), torch.device("cpu")
    slow, apart = figures_on_a_card(1.0, share=0.1), figures_on_a_card(1.0, equal=False)
    assert bar_gpu.is_good("tiny", figures_on_a_card(1.0), card)
    assert not bar_gpu.is_good("tiny", slow, card)
    assert bar_gpu.is_good("tiny, computed again", slow, card)
    assert bar_gpu.is_good("tiny", slow, cpu)
    assert not bar_gpu.is_good("tiny", apart, cpu)


@pytest.mark.slow
def test_the_bar_of_a_gpu_runs_beside_trl_without_one_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'edge-oel[dev]'")
    for name, value in {"DEVICE": "cpu", "SHAPES": "tiny", "STEPS": "5"}.items():
        monkeypatch.setenv(name, value)
    page = FOLDER.parents[1] / "docs" / "results.md"
    before = page.read_bytes() if page.exists() else None
    verdict = run.run_bar(run.find_bars()["gpu"])
    said = capfd.readouterr().out
    assert verdict.passed
    assert "card: none, device cpu" in said
    assert list(verdict.figures["found"]) == ["tiny", "tiny, computed again"]
    for found in verdict.figures["found"].values():
        assert found["beside"]["equal_loss"]
        assert all(tokens > 0 for tokens in found["beside"]["tokens_a_second"].values())
    assert (page.read_bytes() if page.exists() else None) == before
