"""Prompts before they are encoded: read from files, completed, and checked against what a model reads."""
