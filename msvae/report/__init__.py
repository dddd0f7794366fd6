"""Reports: figures and a page of HTML from what stands in a run directory; drawing only, nothing is computed anew."""
