"""Running things: configuration, tasks, executors and the command line."""
