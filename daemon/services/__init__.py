"""The six verbs: receive, assemble, process, deliver, confirm, retire."""
