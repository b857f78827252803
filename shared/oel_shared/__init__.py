"""What both sides speak: wire types, errors, prompts, environments, the llama.cpp model, playing."""
