"""The device: kernels, memory, and the BLAS and C that Linux CPUs use."""
