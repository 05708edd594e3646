"""Prompts as token ids, in the shape vLLM's engine takes."""

from __future__ import annotations

from vllm.inputs import TokensPrompt


def tokens_prompt(token_ids: list[int]) -> TokensPrompt:
    return TokensPrompt(prompt_token_ids=token_ids)
