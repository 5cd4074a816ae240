from hypothesis import settings

# Two busy cores make a single example slow now and then; no example database is left behind.
settings.register_profile("maskmill", deadline=None, database=None, max_examples=100)
settings.load_profile("maskmill")
