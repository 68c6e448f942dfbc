"""Faults on demand: what networks, agents and schedulers do to executors on a bad day."""
