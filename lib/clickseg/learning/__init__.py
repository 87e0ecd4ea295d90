"""Better with use: what readers accepted trains the models, and a worse one is not published."""
