"""Low-rank adapters (LoRA) beside the weights of a network: their files, and the products that they add."""
