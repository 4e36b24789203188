"""Low-rank adapters (LoRA) beside the weights of a network: their files, and the products that they add."""

# The files of an adapter, as PEFT's save_pretrained names them; older ones are pickled.
CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
