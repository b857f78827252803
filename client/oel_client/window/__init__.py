"""A window on the device: one local page of what its model learnt, what waits, what left and what changed."""
