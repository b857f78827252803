"""A whole federation on one machine: the demo, simulation, fault injection."""
