"""What Lightning's callbacks do not bring: averaged weights, freezing, the gradient's norm, a stop at NaN, seeds.

Another callback is another file, added to the Trainer by `cct_lightning/fit.py`, or by `Classifier.configure_callbacks`
where an option of the model asks for it; a line in tests/survival/matrix.py shows that it survives an interruption.
"""
