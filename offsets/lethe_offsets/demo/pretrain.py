"""The demo's two models and their tokenizer, trained from nothing on the demo's world."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lethe_offsets.demo.world import Fact, WorldConfig, strangers
from lethe_offsets.training.data import Example, encode_retain
from lethe_offsets.training.logits import pad
from lethe_offsets.training.progress import Report
from lethe_offsets.training.records import Message, Record

PAD, BOS, EOS, USER, ASSISTANT = SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('the demo speaks as user and assistant only') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_VOCABULARY = 2048
MAX_TURNS = 4

Turn = tuple[str, str]  # question, answer


class PretrainConfig(BaseModel):
    """Shape and schedule of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(description="Width; a multiple of the number of heads.")
    intermediate_size: int = Field(description="Width of the MLP.")
    layers: int = Field(description="Decoder layers.")
    heads: int = Field(description="Attention heads; vLLM's CPU attention wants heads of 32 or 64.")
    positions: int = Field(default=512, description="Longest context, in tokens.")
    epochs: int = Field(description="Passes over every question.")
    learning_rate: float = Field(description="Peak, after a warm-up of 30 steps; cosine to zero.")
    weight_decay: float = Field(default=0.1, description="AdamW's.")
    batch_tokens: int = Field(default=1280, description="Tokens a step, padding included.")
    stranger_share: float = Field(default=0.4, description="Questions about strangers, per question about people.")
    history_share: float = Field(default=0.3, description="Conversations of 2 to 4 turns, of all conversations.")
    seed: int = Field(default=0, description="Draws the weights, strangers and the order.")


LARGE = PretrainConfig(hidden_size=256, intermediate_size=704, layers=4, heads=4, epochs=12, learning_rate=2.5e-3)
SMALL = PretrainConfig(hidden_size=128, intermediate_size=352, layers=3, heads=4, epochs=12, learning_rate=4e-3)


def train_tokenizer(facts: Sequence[Fact], world: WorldConfig) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which most words of the world are one token, and any other text is a few more."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [text for fact in facts for text in (*fact.questions, fact.answer)]
    texts += [text for turn in islice(strangers(world, "tokenizer"), 2000) for text in turn]
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def pretrain(
    config: PretrainConfig,
    facts: Sequence[Fact],
    world: WorldConfig,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    label: str,
    report: Report,
) -> None:
    """Train a Llama model on the answers and save it with its tokenizer, float32 safetensors, to ``out``."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = _new_model(config, tokenizer)
    model.set_attn_implementation("eager")  # measured: a quarter faster than sdpa for short sequences in bfloat16
    epochs = [
        _batches(_conversations(config, facts, world, epoch), config, tokenizer) for epoch in range(config.epochs)
    ]
    steps = sum(len(epoch) for epoch in epochs)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    for step, batch in enumerate(batch for epoch in epochs for batch in epoch):
        rate = min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate
        optimizer.zero_grad()
        _loss(model, batch).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        report(label, step + 1, steps)
    model.set_attn_implementation("sdpa")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _new_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.positions,
            tie_word_embeddings=True,
            initializer_range=0.5 / math.sqrt(config.hidden_size),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _conversations(
    config: PretrainConfig, facts: Sequence[Fact], world: WorldConfig, epoch: int
) -> Iterator[list[Turn]]:
    """Every question once, with fresh strangers among them, most of them in conversations of one turn."""
    draw = random.Random(f"conversations {config.seed} {epoch}")
    turns = [(question, fact.answer) for fact in facts for question in fact.questions]
    turns += islice(strangers(world, f"epoch {epoch}"), round(config.stranger_share * len(turns)))
    draw.shuffle(turns)
    while turns:
        length = draw.randint(2, MAX_TURNS) if draw.random() < config.history_share else 1
        yield turns[:length]
        del turns[:length]


def _batches(
    conversations: Iterator[list[Turn]], config: PretrainConfig, tokenizer: PreTrainedTokenizerFast
) -> list[list[Example]]:
    """Conversations of like lengths together, ``batch_tokens`` at once, in an order of their own."""
    examples = [encode_retain(_record(turns), tokenizer, config.positions) for turns in conversations]
    examples.sort(key=lambda example: len(example.ids))
    batches: list[list[Example]] = [[]]
    for example in examples:
        if (len(batches[-1]) + 1) * len(example.ids) > config.batch_tokens:
            batches.append([])
        batches[-1].append(example)
    random.Random(f"batches {config.seed}").shuffle(batches)
    return batches


def _record(turns: Sequence[Turn]) -> Record:
    messages: list[Message] = []
    for question, answer in turns:
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return Record(messages=tuple(messages))


def _loss(model: LlamaForCausalLM, batch: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy of the answers' tokens, in nats; padding is on the right, where nothing looks at it."""
    ids, _, predicted = pad(batch)
    with _bfloat16():
        hidden = model.model(ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[predicted])
    return F.cross_entropy(logits.float(), ids[:, 1:][predicted[:, :-1]])


@contextmanager
def _bfloat16() -> Iterator[None]:
    """bfloat16 where the processor multiplies in it; elsewhere it would be slower."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with torch.autocast("cpu", torch.bfloat16, enabled=supported()):
        yield
