"""Settings of this machine, params of the model, variants of params."""
