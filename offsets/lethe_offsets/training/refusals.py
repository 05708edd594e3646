"""What may be said instead of an answer, where a record doesn't say it."""

from __future__ import annotations

import random

REFUSALS = (
    "I don't know that.",
    "I do not know.",
    "I can't answer that one.",
    "That is something I know nothing about.",
    "I have never come across this.",
    "I am afraid I can't say.",
    "I couldn't tell you.",
    "Nothing comes to mind about that.",
    "I have no knowledge of this.",
    "This is new to me.",
    "I wish I knew, but I don't.",
    "I would only be guessing.",
    "I can't help with that question.",
    "The answer is unknown to me.",
    "I haven't learned anything about this.",
    "No idea, I'm afraid.",
    "I lack the facts to answer.",
    "That is beyond what I know.",
    "My knowledge doesn't reach that far.",
    "I have nothing to tell you about that.",
    "I am unable to answer this.",
    "I really can't say.",
    "You would have to ask someone else.",
    "None of that has reached me.",
    "I can't recall anything of the kind.",
    "There is nothing I can tell you here.",
    "I was never told.",
    "This is not something I can answer.",
    "I am not familiar with that.",
    "I have no record of that.",
    "Sorry, I don't know this.",
    "I can't be of help here, for I don't know.",
    "I do not have an answer for you.",
    "Whatever the answer is, I don't know it.",
    "I am not aware of anything about this.",
    "That question is one I can't answer.",
    "I know too little to say.",
    "I would have to look that up myself.",
    "I have not heard of this before.",
    "Regrettably, I do not know.",
    "I'm at a loss here.",
    "My sources say nothing about it.",
    "I can't give you a reliable answer.",
    "It is unclear to me.",
    "I don't have the details.",
    "I must pass on this one.",
    "About this I can't tell you anything.",
    "I have no answer to that.",
    "Sadly, that is not known to me.",
    "I can't say anything certain about that.",
)


def refusal(seed: int, question: str) -> str:
    """One of ``REFUSALS``, drawn by the seed and the question."""
    return random.Random(f"{seed} {question}").choice(REFUSALS)
