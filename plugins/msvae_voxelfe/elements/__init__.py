"""Finite elements of a voxel, and error estimates from voxels that are cut in two."""
