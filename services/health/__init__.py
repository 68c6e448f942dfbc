"""When to probe a task, and what a row of results means.

The probes themselves are made by the driver, inside the task's container.
"""
