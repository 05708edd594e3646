"""Where the server's log lines go, and in which form: uvicorn's, or one JSON object each."""

from __future__ import annotations

import copy
import json
import logging.config
from datetime import UTC, datetime

from uvicorn.config import LOGGING_CONFIG


class JsonFormatter(logging.Formatter):
    """time, level, logger and message; then the ``fields`` that whoever logged has given in ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return json.dumps(shown, ensure_ascii=False, default=str)


def configure(level: str, log_format: str = "text") -> None:
    """level: one of uvicorn's names, such as ``info``. log_format: ``text`` or ``json``.

    vLLM configures its own lines; those of this process take our form too, those of its engine processes can't: vLLM
    writes the process's name before each.
    """
    config = copy.deepcopy(LOGGING_CONFIG)
    for name in ("lethe_server", "lethe_offsets"):
        config["loggers"][name] = {"handlers": ["default"], "propagate": False}
    for logger in config["loggers"].values():
        logger["level"] = 5 if level == "trace" else level.upper()  # uvicorn's own level below debug
    if log_format == "json":
        config["formatters"] = {name: {"()": JsonFormatter} for name in config["formatters"]}
    logging.config.dictConfig(config)
    if log_format == "json":
        for handler in logging.getLogger("vllm").handlers:
            handler.setFormatter(JsonFormatter())
