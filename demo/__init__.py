"""The demo: three studies into a PACS, outlines and reports back, pictures to look at."""
