"""``python -m bench study``: AdamP against AdamW on a small GPT, both tuned, QK-norm on and off."""
