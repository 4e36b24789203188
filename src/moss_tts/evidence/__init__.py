"""Evidence that this package computes rightly on a machine: goldens of upstream, and laws of its own."""
