"""The unlearning inference server: a vLLM engine with a small-model pair, behind an OpenAI-compatible API."""
