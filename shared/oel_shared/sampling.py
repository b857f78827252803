"""Drawing one token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sample(
    log_probs: npt.NDArray[np.float32],
    temperature: float,
    rng: np.random.Generator,
    top_p: float = 1.0,
    top_k: int = 0,
) -> int:
    """A token drawn from (vocabulary,) log-probabilities; the likeliest at temperature 0.

    Args:
        top_p: of the tokens left, the likeliest that together hold this much; at least one stays.
        top_k: only so many of the likeliest take part, 0 for all. Temperature first, then top k, then top p.
    """
    if temperature <= 0:
        return int(log_probs.argmax())
    weights = np.exp((log_probs - log_probs.max()).astype(np.float64) / temperature)
    if top_k == 0 and top_p >= 1:
        return int(rng.choice(len(weights), p=weights / weights.sum()))
    order = np.argsort(-weights, kind="stable")[: top_k or None]
    kept = weights[order] / weights[order].sum()
    # What stands before a token decides whether it is still needed, so the first always is.
    before = np.cumsum(kept) - kept
    order, kept = order[before < top_p], kept[before < top_p]
    return int(rng.choice(order, p=kept / kept.sum()))
