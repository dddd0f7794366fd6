"""Reports: figures and an HTML page drawn from the contents of a run directory, without new evaluations."""
