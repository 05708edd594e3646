from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lethe_offsets.errors import InvalidInput
from lethe_server import sources
from lethe_server.settings import Settings

MODELS = {"model": "large", "small_model": "small"}


def load(given: dict[str, Any] | None = None, config: Path | None = None, **environ: str) -> Settings:
    return sources.load(MODELS if given is None else given, config, environ)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def writing(text: str) -> Path:
        path = tmp_path / "lethe.yaml"
        path.write_text(text)
        return path

    return writing


def test_command_line_beats_environment_beats_file_beats_default(write: Any) -> None:
    config = write("host: from-file\nport: 1\ndrain_timeout_s: 7\n")
    settings = load({**MODELS, "port": 3}, config, LETHE_PORT="2", LETHE_HOST="from-env")
    assert (settings.port, settings.host, settings.drain_timeout_s) == (3, "from-env", 7.0)
    assert settings.max_modules_per_batch == 4


def test_engine_options_are_merged_by_name(write: Any) -> None:
    config = write("engine: {dtype: float32, max_model_len: 1, seed: 5}\n")
    settings = load(
        {**MODELS, "engine": {"dtype": "bfloat16"}},
        config,
        LETHE_ENGINE__MAX_MODEL_LEN="2",
        LETHE_ENGINE__ENFORCE_EAGER="true",
    )
    assert settings.engine == {"dtype": "bfloat16", "max_model_len": "2", "seed": 5, "enforce_eager": "true"}


@pytest.mark.parametrize("text", ["/a,/b", '["/a", "/b"]', " /a , /b ,"])
def test_lists_in_variables_are_json_or_have_commas(text: str) -> None:
    assert load(LETHE_MODULES=text).modules == (Path("/a"), Path("/b"))


@pytest.mark.parametrize("text", ["x=y,p/q=z", '{"x": "y", "p/q": "z"}', '["x=y", "p/q=z"]'])
def test_routes_in_variables(text: str) -> None:
    assert load(LETHE_ROUTES=text).routes == {"x": "y", "p/q": "z"}


def test_routes_in_a_file(write: Any) -> None:
    assert load(None, write("routes: {x: y}\n")).routes == {"x": "y"}


@pytest.mark.parametrize("routes", [["x"], ["x=a", "x=b"], 3])
def test_bad_routes(routes: Any) -> None:
    with pytest.raises(InvalidInput, match="routes"):
        load({**MODELS, "routes": routes})


def test_unknown_key_of_the_file_names_near_ones(write: Any) -> None:
    with pytest.raises(InvalidInput, match=r"lethe\.yaml: modles.*modules"):
        load(None, write("modles: []\n"))


def test_unknown_variable_names_near_ones() -> None:
    with pytest.raises(InvalidInput, match=r"LETHE_DRAIN_TIMEOUT: .*LETHE_DRAIN_TIMEOUT_S"):
        load(LETHE_DRAIN_TIMEOUT="3")


def test_kubernetes_service_links_are_not_settings() -> None:
    links = {
        "LETHE_PORT": "tcp://10.0.0.1:8000",
        "LETHE_SERVICE_HOST": "10.0.0.1",
        "LETHE_SERVICE_PORT_HTTP": "8000",
        "LETHE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "LETHE_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert load(**links).port == 8000


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "1: 2\n"])
def test_file_that_is_no_mapping(write: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match="config"):
        load(None, write(text))


def test_missing_file() -> None:
    with pytest.raises(InvalidInput, match=r"/no/such\.yaml"):
        load(None, Path("/no/such.yaml"))


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"small_model.*LETHE_SMALL_MODEL.*also port"):
        load({"model": "large", "port": 99999})


@pytest.mark.parametrize("field", ["api_keys", "admin_keys"])
@pytest.mark.parametrize("key", ["", "has space", "näh"])
def test_unusable_key_is_refused_and_not_shown(field: str, key: str) -> None:
    with pytest.raises(InvalidInput, match=field) as caught:
        load({**MODELS, field: [key]})
    assert not key or key not in str(caught.value)


def test_keys_are_hidden() -> None:
    settings = load({**MODELS, "api_keys": ["clientkey"], "admin_keys": ["adminkey"]})
    assert "clientkey" not in repr(settings)
    assert "adminkey" not in settings.model_dump_json()


def test_a_key_has_one_role() -> None:
    with pytest.raises(InvalidInput, match="share") as caught:
        load({**MODELS, "api_keys": ["samekey"], "admin_keys": ["samekey"]})
    assert "samekey" not in str(caught.value)


def test_served_name_beside_routes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="served_model_name"):
        load({**MODELS, "served_model_name": "x", "routes": ["y=z"]})


def test_public_name_is_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert load({**MODELS, "model": str(tmp_path / "my-model")}).public_name == "my-model"
    assert load({**MODELS, "model": "Org/Model-7B"}).public_name == "Org/Model-7B"
    assert load({**MODELS, "served_model_name": "shown"}).public_name == "shown"


def test_public_name_that_can_not_be() -> None:
    with pytest.raises(InvalidInput, match="served_model_name"):
        _ = load({**MODELS, "model": "name with spaces"}).public_name


def test_modules_may_come_from_where_those_at_start_lie(tmp_path: Path) -> None:
    modules = [str(tmp_path / "a" / "one"), str(tmp_path / "a" / "two"), str(tmp_path / "b" / "three")]
    assert load({**MODELS, "modules": modules}).sources == (str(tmp_path / "a"), str(tmp_path / "b"))
    sources = ["/only", "hf://org"]
    assert load({**MODELS, "modules": modules, "module_sources": sources}).sources == ("/only", "hf://org")
    assert load().sources == ()
