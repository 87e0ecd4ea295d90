"""How good a method is after each click of a simulated reader: run, score, sum up, draw."""
