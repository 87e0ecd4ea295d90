"""Training of both networks: one loop, one split, one preparation of the studies."""
