"""Transformers that are trained by flow matching: a family is data, and the few functions in which it differs."""
