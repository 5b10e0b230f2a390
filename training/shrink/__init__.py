"""Makes a trained network smaller and faster: pruning, distillation, INT8; and measures what that costs."""
