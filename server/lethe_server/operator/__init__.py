"""The operator's commands, against the admin API of a running server."""
