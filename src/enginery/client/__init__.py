"""The client: what runs in the user's process and drives engines."""
