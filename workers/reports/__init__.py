"""Reports for people: pages that need nothing but themselves."""
