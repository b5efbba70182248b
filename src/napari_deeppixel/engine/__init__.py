"""From pixels to instance sets; torch comes in through `torch_gate` alone."""
