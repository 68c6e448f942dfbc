"""The reporter: runner state, health verdict and end cause become one Mesos TaskStatus with its reason."""
