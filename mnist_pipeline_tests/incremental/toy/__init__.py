"""A pipeline of five trivial steps: source -> left, group/right -> total -> summary."""
