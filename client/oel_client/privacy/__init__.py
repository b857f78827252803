"""Differential privacy of a report's counts, given on the device before it enters the outbox. Off by default.

**What epsilon means.** A record is one episode (a game or a talk), or all paired trials on one game and seed, which
share a play. Let any one record be another of the same family and release: a private report is then at most
e^epsilon times as likely as before (pure epsilon-differential privacy, records replaced). Over several reports
epsilons add up, whatever they are about.

**How.** A private report has counts of its first `noise.LESSONS` lessons only, and a record adds at most one to the
counts of each (`counts`). So sets of records that differ in one give counts at most `noise.sensitivity` apart in
L1, 8 or less, and OpenDP's discrete Laplace noise is scaled to that (`noise`). `spending` keeps what was spent; a
report over the same records is the earlier one again, at no cost.

**What is not covered:** which lessons a report names and in what order, how many episodes there are, whether its
lessons were tried, when a report is made, and that records were added since the last one. A trial counts as it was
written down; what the device had learnt from other records by then is no part of that record. Nor are reports
covered that were made while this was off.
"""
