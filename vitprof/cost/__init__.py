"""Counted work of a model: multiply-accumulates, weights, activations."""
