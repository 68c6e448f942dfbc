"""Carrying out what health asks for, inside the container."""
