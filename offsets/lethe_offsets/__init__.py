"""Forget modules: what they are, how they are made, and how their offset is applied."""
