"""How messages travel: sockets, keys, addresses, connection files."""
