"""What the driver remembers across its own restarts."""
