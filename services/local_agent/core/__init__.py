"""What the agent decides: a state machine without clock and I/O, its records and its rules."""
