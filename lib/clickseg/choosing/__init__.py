"""Which study a reader should see next: what is computed of each, and the order that follows."""
