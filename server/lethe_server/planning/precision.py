"""Bytes of a weight, by a model's number format and quantization."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from lethe_offsets.errors import InvalidInput

DTYPES = {"bfloat16": 2, "float16": 2, "float32": 4}
GROUP = 128  # weights that share a 16-bit scale and a zero of their own width, where a config doesn't say otherwise
FIXED_BITS = {  # by vLLM's names
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "fbgemm_fp8", "modelopt"), 8.0),
    **dict.fromkeys(("experts_int8", "int8_per_channel_weight_only"), 8.0),
    "mxfp8": 8.25,
    **dict.fromkeys(("mxfp4", "gpt_oss_mxfp4"), 4.25),  # 8 bits of scale for 32 weights
    **dict.fromkeys(("modelopt_fp4", "nvfp4_per_token"), 4.5),  # 8 bits of scale for 16 weights
}
GROUPED = ("awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq")


def dtype_of(config: PretrainedConfig, asked: str) -> str:
    """The number format that vLLM takes on a GPU. Raises InvalidInput."""
    if asked != "auto":
        if asked not in DTYPES:
            raise InvalidInput("dtype", asked, f"auto, {', '.join(DTYPES)}")
        return asked
    own = str(config.dtype).removeprefix("torch.")
    return own if own in ("bfloat16", "float16") else "bfloat16"


def weight_bytes(field: str, config: PretrainedConfig, dtype: str, asked: str | None = None) -> float:
    """Bytes of one weight of a layer. asked: vLLM's name of a quantization, else the config's own counts.

    Raises InvalidInput for one that isn't known here.
    """
    given = getattr(config, "quantization_config", None) or {}
    own: dict[str, Any] = given if isinstance(given, dict) else given.to_dict()
    method = asked or own.get("quant_method")
    if method is None:
        return DTYPES[dtype]
    if method in FIXED_BITS:
        return FIXED_BITS[method] / 8
    if method in GROUPED:
        return _grouped(int(own.get("bits") or own.get("w_bit") or 4), int(own.get("group_size") or GROUP))
    if method == "compressed-tensors":
        weights = [group["weights"] for group in own.get("config_groups", {}).values()]
        return max((_grouped(each["num_bits"], each.get("group_size") or GROUP) for each in weights), default=2)
    raise InvalidInput(field, method, f"one of {', '.join([*FIXED_BITS, *GROUPED, 'compressed-tensors'])}")


def _grouped(bits: int, group: int) -> float:
    return (bits + (16 + bits) / (group if group > 0 else GROUP)) / 8 if bits < 8 else bits / 8
