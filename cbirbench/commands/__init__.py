"""The commands, a file a subject. Nothing heavy is imported before a command needs it."""
