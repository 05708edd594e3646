"""Answers from an OpenAI-compatible server, beside its log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.endpoint import Endpoint

STRENGTH_HEADER, MODULE_HEADER = "X-Lethe-Strength", "X-Lethe-Module"
AS_IT_IS = {  # a server may have other defaults, from the model's generation_config.json
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class Completions(Endpoint):
    """strength: another than the module's; only a Lethe server knows it."""

    def __init__(self, url: str, model: str, api_key: str | None = None, strength: float | None = None) -> None:
        super().__init__(url, model, api_key)
        if strength is not None:
            self._http.headers[STRENGTH_HEADER] = f"{strength:g}"

    async def answering(self, ids: Sequence[int]) -> str | None:
        """The module that answers, ``base`` for none; None where the server doesn't say. Raises as ``complete``."""
        response = await self._post({"model": self.model, "prompt": list(ids), "max_tokens": 1})
        if not response.is_success:
            raise await self._refusal(response, 0)
        found: str | None = response.headers.get(MODULE_HEADER)
        return found

    async def complete(
        self, ids: Sequence[int], max_tokens: int, *, num: int, temperature: float, seed: int
    ) -> list[str]:
        """``num`` answers to a prompt, drawn from the whole distribution. Raises as ``prompt_logprobs``."""
        body = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": max_tokens,
            "n": num,
            "temperature": temperature,
            "seed": seed,
            **AS_IT_IS,
        }
        response = await self._post(body)
        if not response.is_success:
            raise await self._refusal(response, 0)
        try:
            texts = [str(choice["text"]) for choice in response.json()["choices"]]
        except (ValueError, LookupError, TypeError):
            texts = []
        if len(texts) != num:
            raise InvalidInput("url", self.url, f"a server that gives {num} answers; it gave {len(texts)}")
        return texts
