"""What is said: messages, serialization, functions. No I/O."""
