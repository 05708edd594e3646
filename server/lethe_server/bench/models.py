"""The benchmark's models: random weights, one tokenizer, forget modules; made once and kept."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lethe_offsets.create import create_module
from lethe_offsets.steps import Steps
from lethe_offsets.training.threads import one_thread
from lethe_server.bench.settings import BenchSettings
from lethe_server.bench.shapes import Shape, small_shape

ADAPTER_RANK = 16
ADAPTER_STD = 0.02
LOGIT_STD = 2.0  # far enough apart that rounding rarely decides the greedy token
UNKNOWN, EOS = "<unk>", "</s>"


@dataclass(frozen=True)
class Pair:
    """A small model, the PEFT adapters of its modules' plus lanes, and the modules."""

    small: Path
    adapters: tuple[Path, ...]
    modules: tuple[Path, ...]


@dataclass(frozen=True)
class Models:
    large: Path
    pairs: dict[int, Pair]


def build_models(settings: BenchSettings, work: Path) -> Models:
    """The models below ``work``; those that are already there are kept. The middle ratio gets all the modules."""
    steps = Steps(work)
    large = _model(steps, f"large-{'tiny' if settings.tiny else 'full'}", settings.large, seed=0)
    pairs = {}
    for ratio in settings.ratios:
        shape = small_shape(ratio, settings.tiny)
        small = _model(steps, f"small-{'tiny' if settings.tiny else ratio}", shape, seed=1)
        count = settings.modules if ratio == mixed_ratio(settings) else 1
        pairs[ratio] = _pair(steps, small, max(1, count))
    return Models(large, pairs)


def mixed_ratio(settings: BenchSettings) -> int:
    """The ratio that many modules and the profile are measured at: the middle one."""
    return sorted(settings.ratios)[len(settings.ratios) // 2]


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of exactly ``vocabulary`` words; nothing of it has to be trained or fetched."""
    words = [UNKNOWN, EOS, *(f"w{i}" for i in range(2, vocabulary))]
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, unk_token=UNKNOWN, eos_token=EOS
    )


def _model(steps: Steps, name: str, shape: Shape, seed: int) -> Path:
    def build(out: Path) -> None:
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=shape.context,
            initializer_range=LOGIT_STD / math.sqrt(shape.hidden),
            bos_token_id=None,
            eos_token_id=1,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config).to(torch.bfloat16)  # type: ignore[no-untyped-call,arg-type]
        model.save_pretrained(out)
        word_tokenizer(shape.vocabulary).save_pretrained(out)

    return steps.run(name, {"shape": asdict(shape), "seed": seed}, build)


def _pair(steps: Steps, small: Path, count: int) -> Pair:
    folder = steps.run(
        f"{small.name}-modules-{count}", {"rank": ADAPTER_RANK, "count": count}, lambda out: _fill(out, small, count)
    )
    names = [module_name(i) for i in range(count)]
    return Pair(small, tuple(folder / f"{name}-plus" for name in names), tuple(folder / name for name in names))


def module_name(index: int) -> str:
    return f"m{index}"


def _fill(out: Path, small: Path, count: int) -> None:
    with one_thread():
        for index in range(count):
            name = module_name(index)
            random_adapter(small, out / f"{name}-plus", seed=100 + index)
            create_module(name, small, plus=out / f"{name}-plus", out=out / name)


def random_adapter(small: Path, out: Path, seed: int) -> None:
    """A PEFT LoRA adapter on every linear layer, both halves random."""
    config = LoraConfig(r=ADAPTER_RANK, lora_alpha=ADAPTER_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(small, dtype=torch.bfloat16)
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=ADAPTER_STD)
    model.save_pretrained(str(out), save_embedding_layers=False)
