"""Where the server's log lines go: with uvicorn's, in uvicorn's form. vLLM configures its own."""

from __future__ import annotations

import copy
import logging.config

from uvicorn.config import LOGGING_CONFIG


def configure(level: str) -> None:
    """level: one of uvicorn's names, such as ``info``."""
    config = copy.deepcopy(LOGGING_CONFIG)
    for name in ("lethe_server", "lethe_offsets"):
        config["loggers"][name] = {"handlers": ["default"], "propagate": False}
    for logger in config["loggers"].values():
        logger["level"] = 5 if level == "trace" else level.upper()  # uvicorn's own level below debug
    logging.config.dictConfig(config)
