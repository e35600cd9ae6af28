"""Positions for photos that have none, from an index of photos that have one."""
