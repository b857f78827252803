"""Turn a trained update into files that devices can fetch: full GGUF models, deltas and LoRA adapters.

An update is a mapping of Hugging Face weight names to float32 changes since the base, in Hugging Face row
order. The base weights come from dequantising the base GGUF itself, so nothing here needs torch.
"""
