"""What a result is worth, measured against annotations that are taken as true."""
