"""Files that may not be lost: received instances and results, named by their digest."""
