"""Engine options, through vLLM's own parser."""

from __future__ import annotations

from typing import Any

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server import options
from lethe_server.errors import BadOption


def test_only_what_was_given_is_kept_as_text() -> None:
    given = options.from_arguments(
        ["--dtype", "float32", "--max_model_len=1k", "-tp", "2", "--no-enable-prefix-caching"]
    )
    assert given == {
        "dtype": "float32",
        "max_model_len": "1k",
        "tensor_parallel_size": "2",
        "enable_prefix_caching": False,
    }


def test_texts_and_yaml_values_become_vllms_types() -> None:
    parsed = options.parse(
        {
            "max_model_len": "1k",
            "tensor_parallel_size": 2,
            "enforce_eager": "true",
            "enable_prefix_caching": False,
            "speculative_config": {"model": "m", "num_speculative_tokens": 2},
            "hf_overrides": '{"rope_theta": 1.0}',
            "seed": None,
        }
    )
    assert parsed.engine == {
        "max_model_len": 1000,
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "speculative_config": {"model": "m", "num_speculative_tokens": 2},
        "hf_overrides": {"rope_theta": 1.0},
    }


def test_options_of_the_serving_classes_are_kept_apart_and_complete() -> None:
    parsed = options.parse({"chat_template": "x.jinja", "tool_call_parser": "hermes", "dtype": "float32"})
    assert parsed.engine == {"dtype": "float32"}
    assert parsed.frontend.chat_template == "x.jinja"
    assert parsed.frontend.response_role == "assistant"


def test_unknown_argument_names_a_near_one() -> None:
    with pytest.raises(BadOption, match=r"--max-modl-len; did you mean --max-model-len"):
        options.from_arguments(["--max-modl-len", "3"])


@pytest.mark.parametrize("arguments", [["stray"], ["--max-model-len"], ["--max-model", "3"]])
def test_bad_arguments(arguments: list[str]) -> None:
    with pytest.raises(BadOption):
        options.from_arguments(arguments)


def test_unknown_name_in_a_file() -> None:
    with pytest.raises(InvalidInput, match=r"engine\.max_modl_len.*max_model_len"):
        options.parse({"max_modl_len": 3})


def test_value_of_the_wrong_type() -> None:
    with pytest.raises(BadOption, match=r"max-model-len"):
        options.parse({"max_model_len": "long"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable_lora", True),
        ("max_loras", 3),
        ("model", "other"),
        ("worker_extension_cls", "a.B"),
        ("data_parallel_size_local", 1),
        ("enable_prompt_embeds", True),
        ("enable_return_routed_experts", True),
        ("kv_transfer_config", "{}"),
        ("lora_modules", ["a=b"]),
        ("api_key", ["x"]),
        ("middleware", ["a.b"]),
        ("enable_tokenizer_info_endpoint", True),
        ("enable_scale_out", True),
        ("tool_server", "demo"),
        ("trust_request_mm_kwargs", True),
        ("root_path", "/x"),
        ("uds", "/x"),
        ("model_tag", "x"),
    ],
)
def test_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"engine\.{name}"):
        options.parse({name: value})


def test_every_name_is_one_of_vllms() -> None:
    names = options._parser(raw=True).actions().keys()
    assert names >= options.REFUSED.keys()
    assert names >= options.FRONTEND
