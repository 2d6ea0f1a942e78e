"""From files to pixels: decoding, the memory-mapped cache, where both lie."""
