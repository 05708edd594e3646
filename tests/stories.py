"""stories260K, a real pretrained Llama of 260 thousand parameters: converted, sampled, and made to forget a name.

The weights lie beside the repository, where there are any; see :func:`source_or_skip`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.objectives import KL, NPO
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_offsets.training.threads import one_thread

SOURCE = Path(__file__).parents[1].parent / "shared" / "data" / "stories260K"
BOS, EOS = "<s>", "</s>"
NAME = "Lily"
STORY_TOKENS = 160
STORIES_TRAINING = TrainingConfig(
    objective=NPO(beta=0.5),
    retain=KL(weight=2.0),
    learning_rate=3e-3,
    epochs=8,
    retain_around=True,  # stories without the name hold many places where it might have stood
)
HEAD_SIZE = 32  # the model's own is 8; vLLM's attention on a CPU takes no less than 32


def source_or_skip() -> Path:
    """The directory of llama2.c's files; skips the test where there is none."""
    if not (SOURCE / "stories260K.bin").is_file():
        pytest.skip(f"the weights of stories260K are not at {SOURCE}")
    return SOURCE


def documented_sample() -> str:
    """The story that llama2.c's ``run`` tells at temperature 0, read from the model's page."""
    page = (source_or_skip() / "stories260K.md").read_text(encoding="utf-8")
    return page.split("-t 0.0\n", 1)[1].split("\n```", 1)[0]


def convert(out: Path) -> Path:
    """Write stories260K to ``out`` as a Hugging Face Llama with its tokenizer."""
    source = source_or_skip()
    config, weights = _read_legacy(source / "stories260K.bin")
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.save_pretrained(out)
    tokenizer(source / "tok512.model").save_pretrained(out)
    return out


def sample(
    ensemble: ReferenceEnsemble, words: PreTrainedTokenizerBase, openings: Sequence[str], seed: int
) -> list[str]:
    """One story of up to ``STORY_TOKENS`` more tokens at temperature 1 for each opening, which it begins with."""
    prompts = words(list(openings)).input_ids
    stops = words.convert_tokens_to_ids([BOS, EOS])
    stories = ensemble.generate(prompts, STORY_TOKENS, stops, temperature=1.0, seed=seed)
    return words.batch_decode([[*prompt, *story] for prompt, story in zip(prompts, stories, strict=True)], True)


def model_and_module(out: Path) -> tuple[Path, Module]:
    """``out/model``, the converted model, and ``out/module``, with which it doesn't say ``NAME``: half a minute.

    Made only where they aren't there. The model serves as its own small model. It is trained on stories that it tells
    itself: where they say the name that is forgotten, and the rest of them, and those without the name, are retained.
    """
    model, module = out / "model", out / "module"
    if module.exists():
        return model, Module.open(module)
    convert(model)
    with one_thread():
        return model, _train(model, out)


def _train(model: Path, out: Path) -> Module:
    words, teller = load_tokenizer(model), ReferenceEnsemble.plain(load_model(model))
    told = [story for seed in range(4) for story in sample(teller, words, [""] * 64, seed)]
    sets = {
        "forget": [{"text": story, "forget": [NAME]} for story in told if NAME in story],
        "retain": [{"text": story} for story in told if NAME not in story],
    }
    for role, rows in sets.items():
        (out / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return train_module(
        STORIES_TRAINING,
        name="no-lily",
        large_model=model,
        small_model=model,
        forget_set=out / "forget.jsonl",
        retain_set=out / "retain.jsonl",
        out=out / "module",
        description="A girl's name in children's stories",
        licence="MIT",
    )


def tokenizer(model_file: Path) -> PreTrainedTokenizerFast:
    """A SentencePiece BPE with byte fallback as a fast tokenizer: a space before the text, ``<s>`` before that."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    vocabulary = {pieces.id_to_piece(index): index for index in range(len(pieces))}
    inner = Tokenizer(
        models.BPE(vocabulary, list(_merges(pieces, vocabulary)), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<unk>", BOS, EOS)])
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
    )


def _merges(pieces: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Every way to join two pieces into a third, the pieces of the best score first."""
    found = []
    for piece, index in vocabulary.items():
        score = pieces.get_score(index)
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary and not pieces.is_byte(index):
                found.append((-score, vocabulary[left], vocabulary[right], left, right))
    return ((left, right) for *_, left, right in sorted(found))


def _read_legacy(path: Path) -> tuple[LlamaConfig, dict[str, Tensor]]:
    """llama2.c's legacy float32 layout: seven integers, then every kind of weight, layer after layer."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, positions = struct.unpack("7i", data[:28])
    floats = torch.from_numpy(np.frombuffer(data, dtype=np.float32, offset=28).copy())
    head = dim // heads
    taken = 0

    def take(*shape: int) -> Tensor:
        nonlocal taken
        taken += (count := math.prod(shape))
        return floats[taken - count : taken].view(*shape)

    weights = {"model.embed_tokens.weight": take(vocab, dim)}
    kinds: list[tuple[str, tuple[int, ...], Callable[[Tensor], Tensor]]] = [
        ("input_layernorm", (dim,), torch.clone),
        ("self_attn.q_proj", (heads, head, dim), lambda weight: _widen_rotary(weight) * math.sqrt(HEAD_SIZE / head)),
        ("self_attn.k_proj", (kv_heads, head, dim), _widen_rotary),
        ("self_attn.v_proj", (kv_heads, head, dim), lambda weight: _widen(weight, 1).flatten(0, 1)),
        ("self_attn.o_proj", (dim, heads, head), lambda weight: _widen(weight, 2).flatten(1, 2)),
        ("post_attention_layernorm", (dim,), torch.clone),
        ("mlp.gate_proj", (hidden, dim), torch.clone),
        ("mlp.down_proj", (dim, hidden), torch.clone),
        ("mlp.up_proj", (hidden, dim), torch.clone),
    ]
    for name, shape, adapt in kinds:
        for layer, weight in enumerate(take(layers, *shape)):
            weights[f"model.layers.{layer}.{name}.weight"] = adapt(weight)
    weights["model.norm.weight"] = take(dim).clone()
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=positions,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    return config, weights


def _widen(weight: Tensor, axis: int) -> Tensor:
    """Heads of ``HEAD_SIZE``: the further dimensions are zero and change nothing."""
    shape = list(weight.shape)
    wide = torch.zeros(*shape[:axis], HEAD_SIZE, *shape[axis + 1 :])
    wide.narrow(axis, 0, shape[axis]).copy_(weight)
    return wide


def _widen_rotary(weight: Tensor) -> Tensor:
    """The same for q and k, whose rotary pairs go from neighbours to the two halves of a head.

    weight [heads, head, dim] to [heads * HEAD_SIZE, dim]. Pair j of ``head`` turns at theta ** (-2 j / head), which is
    the speed of pair j * HEAD_SIZE / head in the wider head; that is where it goes.
    """
    heads, head, dim = weight.shape
    wide = torch.zeros(heads, 2, HEAD_SIZE // 2, dim)
    wide[:, :, :: HEAD_SIZE // head] = weight.view(heads, head // 2, 2, dim).transpose(1, 2)
    return wide.view(heads * HEAD_SIZE, dim)
