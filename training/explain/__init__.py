"""Shows what a model looks at, how sure it is, and which cases it gets right and wrong."""
