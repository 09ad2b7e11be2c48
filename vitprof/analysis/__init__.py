"""What samples say: ratios and their intervals, steadiness, grades, comparison. Numpy only: no scipy on this path."""
