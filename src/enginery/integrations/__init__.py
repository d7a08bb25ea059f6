"""Other libraries on engines: joblib, Dask."""
