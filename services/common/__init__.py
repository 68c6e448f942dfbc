"""What runner, health and reporter share: servers, the Attach stream, journals, keys, the task model."""
