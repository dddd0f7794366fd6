"""Flow through pores: the permeability of a structure."""
