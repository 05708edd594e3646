"""``lethe bench``: what the offset costs, beside plain vLLM and its peers."""
