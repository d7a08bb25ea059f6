"""Working from IPython: magics, output of engines in terminals and notebooks, progress bars."""
