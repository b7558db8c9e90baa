"""Operators: each a module with INPUTS, Params, State, take and close. `core.topology` lists them in data-flow order."""
