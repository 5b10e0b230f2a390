"""Where samples come from, all in one shape."""
