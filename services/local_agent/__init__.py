"""A Mesos agent for one machine: the real v1 executor API, and master and scheduler as a person plays them."""
