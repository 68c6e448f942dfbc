"""What a task uses, measured inside the container. Loaded once somebody asks; without interest nothing is measured."""
