"""The three services: one link class, three peers."""
