"""Mesos' v1 executor HTTP API: the event stream, the calls, the outbox."""
