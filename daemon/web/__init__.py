"""The administrator's console: pages, health and figures by HTTP; it talks to the house as the command line does."""
