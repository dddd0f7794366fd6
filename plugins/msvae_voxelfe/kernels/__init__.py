"""The compiled kernels: C sources in `source`, their arguments, and the threads that run them."""
