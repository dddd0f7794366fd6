"""From the phases of a structure to the parameters of its voxels, and the laws of nonlinear materials."""
