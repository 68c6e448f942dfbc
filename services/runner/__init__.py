"""The runner: validation, plan, state machines, journal, kill orchestration and recovery of tasks."""
