"""Single images and their prompts, answered while somebody waits."""
