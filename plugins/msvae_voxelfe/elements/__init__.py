"""What one voxel does, and what it would do if it were cut in two."""
