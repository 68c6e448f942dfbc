"""Control groups, version 1 and 2: what is mounted, limits, OOM, destroy."""
