"""Structures as grids of voxels: boundary conditions, percolation, and phases of extreme contrast."""
