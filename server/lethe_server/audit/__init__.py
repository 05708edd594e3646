"""The record of who changed what: a chain of lines, each with the hash of the one before."""
