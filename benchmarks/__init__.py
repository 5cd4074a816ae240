import workers.engine  # noqa: F401 - before torch: it tells OpenMP's threads how to wait
