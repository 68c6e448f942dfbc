"""Where executors run: launchers, their environment, their processes."""
