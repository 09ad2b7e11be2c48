"""A name or a file to a module that can be run: `catalogue` is the light side (no torch), `load` the heavy one."""
