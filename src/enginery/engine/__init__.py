"""The engine: the program that runs user code and keeps a namespace."""
