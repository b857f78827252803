"""What a server round leaves behind, for tests that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]


def stages_of(number: int) -> dict[str, dict[str, Any]]:
    """Plausible results of a round that released something."""
    lesson = {"family": "cooking", "cue": "legal", "template": "eat meal", "advice": "do", "id": "x"}
    merged = {"lesson": lesson, "text": 'cooking: when "eat meal" is possible, do it', "devices": 3}
    gate = {"current": 0.31, "candidate": 0.42, "random": 0.12, "difference": 0.11, "low": 0.04, "high": 0.18}
    candidates = [
        {"name": "dithered", "role": "delta", "type": "Q4_1", "bytes_to_fetch": 1_500_000, "kl": 0.02},
        {"name": "adapter", "role": "adapter", "type": "F16", "bytes_to_fetch": 9_800_000, "kl": 0.019},
    ]
    return {
        "collect": {"reports": 4, "nodes": 4, "bytes_up": 2345},
        "merge": {"lessons": [merged | {"supports": 21, "contradictions": 4, "used": True}]},
        "practise": {"families": {"cooking": {"episodes": 40, "prompts": 211, "score": 0.3}}},
        "precheck": {
            "families": {
                "cooking": {"without": 0.3, "with": 0.4, "difference": 0.1, "low": 0.02, "high": 0.2}
            },
            "helps": True,
        },
        "distil": {
            "steps": 3,
            "losses": [0.31, 0.2, 0.12 / number],
            "gap_before": 0.31,
            "gap_after": 0.1,
            "seconds": 9,
        },
        "package": {"candidates": candidates},
        "screen": {"candidates": candidates, "picked": "dithered"},
        "gate": {
            "families": {"cooking": gate | {"games": 60, "plays": 120}},
            "overall": gate | {"games": 60, "plays": 120, "p_value": 0.003, "alpha": 0.025},
            "released": True,
        },
        "release": {"released": True, "version": f"r{number}", "bytes_down": 1_500_000},
    }


def write_stages(server: Path, number: int, stages: Stages) -> None:
    """Leave the results of a round's stages, in their order."""
    folder = server / "rounds" / f"{number:04d}"
    folder.mkdir(parents=True)
    for stage, result in stages.items():
        (folder / f"{stage}.json").write_text(json.dumps(result))
