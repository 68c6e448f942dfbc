"""Reading the logs of runs, inside the container. Loaded once somebody asks."""
