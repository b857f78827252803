"""Whether a candidate forgot what it was not taught: plain instructions, general talk, other games."""
