"""What the single-image routes have in common: keys, bodies, images and the shapes of errors."""
