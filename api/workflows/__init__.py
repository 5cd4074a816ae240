"""A workflow, run on the images of one request."""
