"""Runs in other tools' formats, and theirs as runs."""
