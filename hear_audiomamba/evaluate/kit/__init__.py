"""An environment with HEAR's own tools, from the pins in this folder."""
