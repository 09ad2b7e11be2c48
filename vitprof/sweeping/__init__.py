"""A whole grid of cells, from PLAN.toml to rows in the store; `run` is where to begin."""
