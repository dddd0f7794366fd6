"""Structures as grids of voxels: what lies beyond their sides, which voxels lead through, and phases far apart."""
