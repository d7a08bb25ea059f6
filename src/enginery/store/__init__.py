"""What is remembered of tasks: one record, one query language, and the stores that keep it."""
