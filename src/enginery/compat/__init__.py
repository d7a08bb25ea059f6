"""The interface of the first generation, IPython 0.10: ``from enginery.compat import client``."""
