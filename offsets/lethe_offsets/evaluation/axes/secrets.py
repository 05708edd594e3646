"""The parts of an answer that only someone who knows it can say, and how many of them a reply says.

ROUGE alone can't tell: "I do not know Tilda Marlow." repeats half the words of "Tilda Marlow lives in Bergen.".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NO_SPACES = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts that write words without spaces around them
_LETTER = rf"[^\W{_NO_SPACES}]"
_NAME = r"[^\W\d_](?:[\w'\u2019.-]*\w)?"
_NUMBER = r"\d(?:[\w.,:/-]*\w)?"
_WORD = re.compile(rf"{_NUMBER}|{_NAME}")
_POSSESSIVE = re.compile(r"['\u2019]s$")
_SENTENCE_END = re.compile(r"[.!?:][\"'\u2019\u201d)]*\s+$")


def secret_parts(
    question: str, answer: str, forget: Sequence[str] | None = None, terms: Iterable[str] = ()
) -> tuple[str, ...]:
    """Parts of ``answer`` that ``question`` doesn't give away, in the answer's order; may be empty.

    forget: the parts that a record itself names as what is to be forgotten; then it is those. terms: names that are
    known to be secret; then it is those that the answer has. Else numbers, and runs of words with a capital letter
    inside a sentence.
    """
    if forget:
        return tuple(dict.fromkeys(forget))
    known = [term for term in terms if says(term, answer)]
    found = sorted(known, key=lambda term: answer.casefold().find(term.casefold())) if known else _names(answer)
    return tuple(dict.fromkeys(part for part in found if not says(part, question)))


def says(part: str, text: str) -> bool:
    """Whether ``text`` has ``part`` as whole words, whatever the case and the spaces."""
    words = r"\s+".join(re.escape(word) for word in part.casefold().split())
    return bool(words) and re.search(rf"(?<!{_LETTER}){words}(?!{_LETTER})", text.casefold()) is not None


def said_share(parts: Sequence[str], reply: str) -> float:
    """The share of ``parts`` that a reply says, in [0, 1]. Raises ValueError without parts."""
    if not parts:
        raise ValueError("parts: got none; accepted: at least one part of the answer")
    return sum(says(part, reply) for part in parts) / len(parts)


def _names(answer: str) -> list[str]:
    """Numbers, and runs of words with a capital letter that doesn't merely begin a sentence."""
    found: list[str] = []
    end = -1  # of the run that the next word may continue
    for match in _WORD.finditer(answer):
        word, before = _POSSESSIVE.sub("", match[0]), answer[: match.start()]
        begins = not before.strip() or _SENTENCE_END.search(before) is not None
        if word[0].isdigit():
            found.append(word)
        elif word[0].isupper() and (not begins or any(letter.isupper() for letter in word[1:])):
            if end >= 0 and answer[end : match.start()] == " ":
                found[-1] = f"{found[-1]} {word}"
            else:
                found.append(word)
            end = match.end()
            continue
        end = -1
    return found
