"""The paths that Lethe answers itself; those of inference are vLLM's (``engine/paths.py``)."""
