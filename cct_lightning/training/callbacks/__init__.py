"""What Lightning's callbacks do not bring: averaged weights, freezing, the gradient's norm, a stop at NaN, seeds."""
