"""The driver: hub of the star, between the agent, the coordinator and the three services.

It can be killed and started again at any moment: everything it knows stands in memory files that the coordinator holds.
"""
