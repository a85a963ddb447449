"""The embedded world: images and captions drawn from a seed, and a tiny CLIP that learns from them."""
