"""Frozen weights spread over ranks: each keeps a share of every layer, and gathers a layer while it computes it.
Modules of `model` import them; they import only its frozen layers and the comparison of ranks."""
