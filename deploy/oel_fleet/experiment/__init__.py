"""Experiments: whole federations beside each other, cut into cells that are run, resumed and tabulated."""
