"""Messages to an administrator, by webhook and e-mail."""
