"""Improving in the field: corrected outlines come back, studies to annotate are chosen, sites learn together."""
