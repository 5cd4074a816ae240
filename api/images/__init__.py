"""A job's images to look at: lists with what was found in them, and pictures."""
