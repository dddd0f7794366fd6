"""The compiled kernels: their C sources in `source`, what they are given, and the threads that run them."""
