"""The console: a page for people with an API key, and how they sign in to it."""
