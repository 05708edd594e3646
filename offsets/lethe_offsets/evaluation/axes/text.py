"""Arithmetic on generated text: repetition, and likeness of questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

CHUNK = 256  # texts compared at once, so that large sets fit into memory


def repetition(tokens: Sequence[int], n: int) -> float | None:
    """The share of n-grams that are repeats of an earlier one, in [0, 1]; None for fewer than n tokens.

    seq-rep-n of "Neural Text Generation with Unlikelihood Training" (arXiv 1908.04319).
    """
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else None


def likeness(texts: Sequence[str], to: Sequence[str]) -> Iterator[list[float]]:
    """Cosine of TF-IDF vectors of character 3- to 5-grams, in [0, 1]: a row for each of ``texts``, a column of ``to``.

    Characters and not words, for names and inflections in any language. Raises ValueError where all texts are blank.
    """
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform([*texts, *to])
    others = vectors[len(texts) :].T
    for start in range(0, len(texts), CHUNK):
        yield from (vectors[start : min(start + CHUNK, len(texts))] @ others).toarray().tolist()
