"""Words and laws of the domain: images, masks, instances, categories (numpy only)."""
