"""The `trivet` command: run a task through every part of the system, or run the services for a real agent."""
