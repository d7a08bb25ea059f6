"""The rim: what traitlets applications share: profiles, configuration files, flags, arguments."""
